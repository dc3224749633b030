-- Which devices with a socket on a node are not recorded as connected to it. $1 node uuid, $2 users uuid[], $3 device ids
-- text[]. Returns the pairs. A device that signed off keeps its node, so it is not missing. Uses presence_devices_pkey.
select o.user_id, o.device_id
from unnest($2::uuid[], $3::text[]) as o (user_id, device_id)
where not exists (
  select from rollcall.presence_devices d
  where d.user_id = o.user_id and d.device_id = o.device_id and $1 = any (d.nodes)
)
