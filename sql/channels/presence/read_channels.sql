-- What some channels of a node track. $1 node uuid, $2 channels bigint[]. Returns at most one row per channel, unordered;
-- none for channels that track nothing.
select p.channel, p.topic, p.private, p.key, p.phx_ref, p.payload, p.user_id, p.joined_at
from rollcall.presence p
where p.node = $1 and p.channel = any ($2)
