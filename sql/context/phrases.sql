-- Where phrases stand among the caller's units. $1 text[], $2 how many units of each at most int.
-- Returns one row a phrase that stands anywhere.
select phrase, unit_ids, units, groups from rollcall.my_phrases($1, $2)
