-- Releases the roll-up lease of a user. $1 user uuid, $2 lease uuid. Returns one row.
select rollcall_internal.end_roll_up($1, $2)
