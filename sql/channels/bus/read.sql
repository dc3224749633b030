-- Batches of the bus. $1 slots smallint[], $2 ids bigint[]. Returns at most one row per id, in the order of $2; none for
-- batches that were purged.
select b.id, b.node, b.batch, b.payload
from rollcall_internal.bus b
where b.slot = any ($1) and b.id = any ($2)
order by pg_catalog.array_position($2, b.id)
