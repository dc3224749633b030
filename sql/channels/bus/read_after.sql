-- Batches of the bus after an id, except those of one node. $1 id bigint, $2 node uuid. Returns at most 16 rows, in the
-- order of their ids.
select b.id, b.node, b.batch, b.payload
from rollcall_internal.bus b
where b.id > $1 and b.node <> $2
order by b.id
limit 16
