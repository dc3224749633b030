-- Everybody present on a node. $1 node uuid. Returns a row a channel, in no order.
select p.channel, p.topic, p.private, p.key, p.phx_ref, p.payload, p.user_id, p.joined_at
from rollcall.presence p
where p.node = $1
