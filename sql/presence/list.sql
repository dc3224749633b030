-- Presences as the caller may see them: of the users named, or (null) of everybody related to the caller.
-- $1 users uuid[] or null.
-- Returns at most one row a user: service_role sees both faces and gets the trusted one.
-- Relies on user_presence_pkey. is_typing: in a conversation shared with the caller, as far as the caller may see.
select distinct on (p.user_id)
  p.user_id, p.face, p.status, p.reach, p.last_seen, p.custom_status, p.activity, p.current_page, p.idle_since,
  p.version,
  exists (
    select from public.typing_indicators t where t.user_id = p.user_id and t.expires_at > now()
  ) as is_typing
from public.user_presence p
where p.user_id = any (coalesce($1::uuid[], array(select r from rollcall.my_relations() r)))
order by p.user_id, p.face desc
