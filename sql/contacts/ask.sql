-- Requests a contact. $1 user uuid. Returns a row unless the two have a contact row already. Relies on contacts_pair.
insert into rollcall.contacts (requester_id, addressee_id) values (auth.uid(), $1)
on conflict do nothing
returning addressee_id
