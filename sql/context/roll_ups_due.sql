-- Users with unprocessed units. $1 maximum number int. Returns one row per user.
select rollcall_internal.roll_ups_due($1)
