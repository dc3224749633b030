-- Inserts accepted contacts. $1 requesters uuid[], $2 addressees uuid[], paired by position.
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
select pair.requester, pair.addressee, now() from unnest($1::uuid[], $2::uuid[]) as pair (requester, addressee)
