-- Says that an answer is still being written. $1 uuid. Returns one row.
select rollcall.touch_answer($1)
