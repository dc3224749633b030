-- Context signals of devices by version, for the user's own sockets. $1 users uuid[], $2 versions bigint[], of one length.
-- Returns at most one row per pair: none for an outdated version, for which another notification follows. Relies on
-- presence_devices_pkey.
select d.user_id, d.device_id, d.active_conversation_id, d.visible_conversation_ids, d.active_notebook_id,
  d.active_persona_id, d.last_navigation_path, d.local_time, d.context_updated_at
from unnest($1::uuid[], $2::bigint[]) as heard (user_id, version)
join rollcall.presence_devices d on d.user_id = heard.user_id and d.context_version = heard.version
order by d.context_version
