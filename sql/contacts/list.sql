-- The caller's contacts and requests in both directions. $1 only this user uuid, or null for all.
-- Returns one row per contact, oldest first. Uses contacts_pkey and contacts_addressee_id.
select
  case when c.requester_id = auth.uid() then c.addressee_id else c.requester_id end as user_id,
  c.requester_id = auth.uid() as asked_by_me,
  c.created_at, c.accepted_at
from rollcall.contacts c
where (c.requester_id = auth.uid() and c.addressee_id = coalesce($1::uuid, c.addressee_id))
  or (c.addressee_id = auth.uid() and c.requester_id = coalesce($1, c.requester_id))
order by c.created_at, 1
