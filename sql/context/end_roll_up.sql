-- Gives the lease of a user's roll-up back. $1 user uuid, $2 lease uuid. Returns one row.
select rollcall_internal.end_roll_up($1, $2)
