-- Ends a contact, declines a request, or takes one back. $1 user uuid. Returns a row if there was any.
delete from rollcall.contacts c
where (c.requester_id = auth.uid() and c.addressee_id = $1) or (c.addressee_id = auth.uid() and c.requester_id = $1)
returning c.created_at
