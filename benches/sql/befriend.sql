-- Makes accepted contacts, pair by pair: $1 requesters uuid[], $2 addressees uuid[].
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
select pair.requester, pair.addressee, now() from unnest($1::uuid[], $2::uuid[]) as pair (requester, addressee)
