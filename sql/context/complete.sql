-- Ends actions that are done. $1 bigint[]. Returns one row.
select rollcall_internal.complete_actions($1)
