-- Channel presence of a node. $1 node uuid. Returns one row per channel, unordered.
select p.channel, p.topic, p.private, p.key, p.phx_ref, p.payload, p.user_id, p.joined_at
from rollcall.presence p
where p.node = $1
