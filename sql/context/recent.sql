-- Context signals of some users' devices that changed recently: for a node that missed notifications.
-- $1 users uuid[], $2 age in seconds float8. Returns at most one row per device. Relies on presence_devices_pkey.
select d.user_id, d.device_id, d.active_conversation_id, d.visible_conversation_ids, d.active_notebook_id,
  d.active_persona_id, d.last_navigation_path, d.local_time, d.context_updated_at
from rollcall.presence_devices d
where d.user_id = any ($1::uuid[]) and d.context_updated_at >= clock_timestamp() - $2::float8 * interval '1 second'
order by d.context_version
