-- Marks an answer as still being written. $1 uuid. Returns one row.
select rollcall_internal.touch_answer($1)
