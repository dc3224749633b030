-- Devices that are recorded as connected to a node, in pages. $1 node uuid, $2 last user of the previous page uuid, $3
-- connected devices of all nodes per page bigint. Returns one row: users uuid[], devices text[], last_user uuid, which is
-- null after the last page. A device that signed off keeps its node, so it is left out. Uses presence_devices_on_nodes.
with page as materialized (
  select d.user_id, d.device_id, d.signed_off_at is null and $1 = any (d.nodes) as is_of_node
  from rollcall.presence_devices d
  where d.nodes <> '{}' and d.user_id > $2
  order by d.user_id
  fetch first ($3::bigint) rows with ties
)
select
  coalesce(array_agg(p.user_id order by p.user_id, p.device_id) filter (where p.is_of_node), '{}') as users,
  coalesce(array_agg(p.device_id order by p.user_id, p.device_id) filter (where p.is_of_node), '{}') as devices,
  case when count(*) >= $3 then (array_agg(p.user_id order by p.user_id desc))[1] end as last_user
from page p
