-- The caller's devices, the latest first. Uses presence_devices_pkey.
-- connected: a running node holds a socket of it. An idle device reads away.
select d.device_id, d.device_name, d.device_type, d.platform, d.app_version,
  case when d.status = 'online' and d.idle_since is not null then 'away' else d.status end::text as status,
  d.last_heartbeat_at, d.idle_since, d.session_started_at,
  d.nodes <> '{}' and rollcall.any_node_lives(d.nodes) as connected
from rollcall.presence_devices d
where d.user_id = auth.uid()
order by d.last_heartbeat_at desc, d.device_id
