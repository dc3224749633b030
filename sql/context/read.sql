-- States of devices' context signals by their versions, for the user's own sockets.
-- $1 users uuid[], $2 versions bigint[], of one length.
-- Returns at most one row a pair: none where the state is not the latest any more, for which another notification
-- is under way. Relies on presence_devices_pkey.
select d.user_id, d.device_id, d.active_conversation_id, d.visible_conversation_ids, d.active_notebook_id,
  d.active_persona_id, d.last_navigation_path, d.local_time, d.context_updated_at
from unnest($1::uuid[], $2::bigint[]) as heard (user_id, version)
join rollcall.presence_devices d on d.user_id = heard.user_id and d.context_version = heard.version
order by d.context_version
