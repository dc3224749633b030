-- What each of some viewers sees, evaluated by row-level security as that viewer (rollcall_internal.visible_users).
-- $1 role text[], $2 claims text[], $3 whether to include all users bool[], $4 followed users uuid[] and $5 the end of each
-- viewer's list int[], $6 users to include uuid[] and $7 the end of each viewer's list int[].
-- Returns up to three rows per viewer, one for each face with the related and the followed users whose face that viewer sees
-- (face is null for those who are not visible); one row with a conversation_id per viewer and conversation in which the
-- related users type; one row with `error` where a policy raised; then, without a viewer, each face that any of them sees.
-- The error `later` means that this viewer and those after it were not queried.
-- One snapshot for all: a face is never newer than the answer of row-level security about it.
with seen as materialized (
  select s.viewer, s.face, s.related, s.followed, s.conversation_id, s.id_is_number, s.error
  from rollcall_internal.visible_users($1, $2, $3, $4, $5, $6, $7) s
)
select s.viewer, s.face::text, s.related, s.followed, s.conversation_id, s.id_is_number, s.error,
  null::uuid as user_id, null::text as status, null::text as reach, null::timestamptz as last_seen,
  null::text as custom_status, null::text as activity, null::text as current_page, null::timestamptz as idle_since,
  null::bigint as version
from seen s
union all
select null, p.face::text, null, null, null, null, null,
  p.user_id, p.status::text, p.reach::text, p.last_seen, p.custom_status, p.activity, p.current_page, p.idle_since, p.version
from (
  select pg_catalog.array_agg(f.id) as ids, pg_catalog.array_agg(f.face) as faces
  from (
    select distinct s.face, u.id
    from seen s
    cross join lateral pg_catalog.unnest(s.related operator(pg_catalog.||) s.followed) u (id)
    where s.face is not null
  ) f
) shown
cross join lateral rollcall_internal.stored_faces(shown.ids, shown.faces) p
