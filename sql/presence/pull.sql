-- What a node needs to notify its viewers of changes, in one snapshot: the snapshot itself, every change of visibility that it
-- includes and the earlier one did not, and the faces of some users.
-- $1 users uuid[], $2 the earlier snapshot as text (null: no changes of visibility), $3 whether to compare policies by
-- fingerprint, because no event trigger notifies of them, $4 conversations text[] and $5 users uuid[]: pairs that may be typing.
-- Returns one row of kind `snapshot` with the cluster and timeline; one of kind `void` per change of visibility, and per value
-- for which another table names whom a change concerns; one of kind `group` per group with changed members, with its members
-- as `viewers` (null if they cannot be read) and the users that were added, removed or changed as `subjects`; one of kind
-- `face` per face; one of kind `typing` per pair, with the participants as `viewers` and the time of the last notification in
-- microseconds as version: null where the user is not typing.
-- Two users start or end to share a group only when one of them moves. The other one is then a member in this snapshot, or
-- moved too, or moved before, and an earlier read returned the pair.
-- Relies on visibility_log_xid and user_presence_pkey. Guarantee: a face is never newer than the changes beside it.
with fresh as materialized (
  select l.viewers, l.subjects, l.relation, l.group_id, l.policy_join, l.join_value
  from rollcall_internal.visibility_log l
  where $2::text is not null
    and l.xid >= pg_snapshot_xmin($2::text::pg_snapshot)
    and not pg_visible_in_snapshot(l.xid, $2::text::pg_snapshot)
)
select
  'snapshot' as kind, pg_current_snapshot()::text as snapshot,
  case when $3::boolean then rollcall_internal.policy_fingerprint() end as version,
  null::uuid[] as viewers, null::uuid[] as subjects,
  null::uuid as user_id, null::text as face, null::text as status,
  null::text as reach, null::timestamptz as last_seen, null::text as custom_status,
  null::text as activity, null::text as current_page, null::timestamptz as idle_since,
  null::text as conversation_id, null::boolean as id_is_number,
  rollcall_internal.cluster_identity() as cluster
union all
select 'void', null, null, f.viewers, f.subjects, null, null, null, null, null, null, null, null, null, null, null, null
from fresh f
where f.relation is null and f.policy_join is null
union all
select 'void', null, null, j.viewers, j.subjects, null, null, null, null, null, null, null, null, null, null, null, null
from (
  select f.policy_join, array_agg(distinct f.join_value) as changed
  from fresh f
  where f.policy_join is not null
  group by f.policy_join
) c
cross join lateral rollcall_internal.users_joined(c.policy_join, c.changed) j
where j.viewers is distinct from '{}' and j.subjects is distinct from '{}'
union all
select 'group', null, null, rollcall_internal.members_of_group(g.relation, g.group_id), g.moved,
  null, null, null, null, null, null, null, null, null, null, null, null
from (
  select f.relation, f.group_id, array_agg(distinct moved.id) as moved
  from fresh f
  cross join lateral unnest(f.subjects) as moved (id)
  where f.relation is not null
  group by f.relation, f.group_id
) g
union all
select 'face', null, p.version, null, null, p.user_id, p.face::text, p.status::text, p.reach::text, p.last_seen, p.custom_status,
  p.activity, p.current_page, p.idle_since, null, null, null
from rollcall.user_presence p
where p.user_id = any ($1::uuid[])
union all
select 'typing', null,
  (extract(epoch from t.updated_at) * 1000000)::bigint,
  array(select m.id from rollcall_internal.participants_in(array[pair.conversation_id]) as m (id) where m.id is not null),
  null, pair.user_id, null, null, null, null, null, null, null, null, pair.conversation_id, t.id_is_number, null
from unnest($4::text[], $5::uuid[]) as pair (conversation_id, user_id)
left join rollcall.typing_indicators t on t.conversation_id = pair.conversation_id and t.user_id = pair.user_id
