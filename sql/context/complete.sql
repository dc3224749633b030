-- Ends finished actions. $1 uuid[]. Returns one row.
select rollcall_internal.complete_actions($1)
