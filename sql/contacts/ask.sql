-- Asks a user for a contact. $1 user uuid. Returns a row unless there is one between the two, whoever asked.
-- Relies on contacts_pair.
insert into rollcall.contacts (requester_id, addressee_id) values (auth.uid(), $1)
on conflict do nothing
returning addressee_id
