-- Deletes a contact or a request in either direction. $1 user uuid. Returns a row if there was one.
delete from rollcall.contacts c
where (c.requester_id = auth.uid() and c.addressee_id = $1) or (c.addressee_id = auth.uid() and c.requester_id = $1)
returning c.created_at
