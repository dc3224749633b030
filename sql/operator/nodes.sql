-- The servers on this database and what they hold, the oldest first. Returns one row a node.
select
  n.id, n.started_at, n.renewed_at, n.lease_expires_at, n.lease_expires_at > now() as alive,
  (select count(*) from rollcall.presence_devices d where n.id = any (d.nodes)) as devices
from rollcall.presence_nodes n
order by n.started_at, n.id
