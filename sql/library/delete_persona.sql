-- Deletes a persona of the caller. $1 id uuid. Returns one row, or none.
delete from rollcall.personas t where t.id = $1 and t.user_id = auth.uid() returning t.id
