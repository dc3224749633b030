-- Ends actions that are done. $1 bigint[]. Returns one row.
select rollcall.complete_actions($1)
