-- Makes these, and nobody else, the caller's visibility list. $1 users uuid[]. Returns nothing.
-- Who is on it before and after keeps the row: nobody's sight is void without need.
with removed as (
  delete from rollcall.presence_visibility_list l where l.user_id = auth.uid() and l.viewer_id <> all ($1::uuid[])
)
insert into rollcall.presence_visibility_list (user_id, viewer_id)
select auth.uid(), u.id
from (select distinct pg_catalog.unnest($1::uuid[])) u (id)
where not exists (select from rollcall.presence_visibility_list l where l.user_id = auth.uid() and l.viewer_id = u.id)
on conflict (user_id, viewer_id) do nothing
