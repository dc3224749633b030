-- Deletes a topic of the caller. $1 id uuid. Returns one row, or none.
delete from rollcall.topic_profiles t where t.id = $1 and t.user_id = auth.uid() returning t.id
