-- Takes the roll-up lease of a user. $1 user uuid, $2 whether to take it over. Returns one row: null where it is taken.
select rollcall_internal.begin_roll_up($1, $2)
