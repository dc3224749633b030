-- Writes what a roll-up found. $1 user uuid, $2 lease uuid, $3 jsonb. Returns one row: null where the lease is lost.
select rollcall_internal.apply_roll_up($1, $2, $3) as found
