-- Presence as the caller may see it: of the users given, or (null) of all users related to the caller.
-- $1 users uuid[] or null. Returns at most one row per user: service_role sees both faces and gets the trusted one.
-- is_typing: in a conversation shared with the caller, as far as the caller may see.
-- Relies on user_presence_pkey, and therefore on `case` instead of `coalesce`: the planner treats the latter as leaky and
-- would evaluate row-level security on every row of the table first.
select distinct on (p.user_id)
  p.user_id, p.face::text, p.status::text, p.reach::text, p.last_seen, p.custom_status, p.activity, p.current_page, p.idle_since,
  p.version,
  exists (
    select from rollcall.typing_indicators t where t.user_id = p.user_id and t.expires_at > now()
  ) as is_typing
from rollcall.user_presence p
where p.user_id = any (case when $1::uuid[] is null then array(select r from rollcall.my_relations() r) else $1 end)
order by p.user_id, p.face desc
