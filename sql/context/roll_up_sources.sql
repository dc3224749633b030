-- What a roll-up of the caller works on. $1 how many units at most int. Returns one row.
select rollcall.roll_up_sources($1) as found
