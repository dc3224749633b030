-- Users with units that no roll-up has taken in. $1 how many at most int. Returns one row a user.
select rollcall_internal.roll_ups_due($1)
