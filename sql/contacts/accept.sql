-- Accepts a contact request to the caller. $1 user uuid. Returns a row if it was pending. Uses contacts_pkey.
update rollcall.contacts c set accepted_at = now()
where c.requester_id = $1 and c.addressee_id = auth.uid() and c.accepted_at is null
returning c.requester_id
