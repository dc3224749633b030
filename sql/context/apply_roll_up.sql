-- Writes the result of a roll-up. $1 user uuid, $2 lease uuid, $3 jsonb. Returns one row: null where the lease was lost.
select rollcall_internal.apply_roll_up($1, $2, $3) as found
