-- Entries of the bus. $1 slots smallint[], $2 ids bigint[]. Returns at most one row an id, in the order of $2; none for what
-- has been emptied.
select b.payload
from rollcall_internal.bus b
where b.slot = any ($1) and b.id = any ($2)
order by array_position($2, b.id)
