-- Where phrases occur in the caller's units. $1 text[], $2 maximum number of units per phrase int.
-- Returns one row per phrase that occurs.
select phrase, unit_ids, units, groups from rollcall.my_phrases($1, $2)
