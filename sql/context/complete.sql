-- Ends finished actions. $1 bigint[]. Returns one row.
select rollcall_internal.complete_actions($1)
