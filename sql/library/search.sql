-- The caller's memories and units that match a text, best first. $1 text; $2 embedding text or null; $3 filters jsonb;
-- $4 maximum number int. Returns one row each.
select found from rollcall.search($1, $2, $3, $4)
