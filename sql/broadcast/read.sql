-- Outbox messages for sockets. $1 ids bigint[]. Returns at most one row per id, in the order of $1.
select o.kind, o.recipients, o.body::text as body
from rollcall_internal.outbox o
where o.id = any ($1)
order by pg_catalog.array_position($1, o.id)
