-- Deletes a message of the caller. $1 id uuid. Returns one row, or none.
delete from rollcall.messages t where t.id = $1 and t.user_id = auth.uid() returning t.id
