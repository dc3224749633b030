-- Module: presence
-- How the database notifies servers of changes of presence and of who may see whom. A notification carries ids, never
-- content. What may be seen is read again under row-level security, and every change of visibility is in
-- rollcall_internal.visibility_log in the transaction that made it.

-- A reader that takes faces and this log in one snapshot knows whether the results of row-level security that it
-- cached are as new as the faces. Unlogged: after a crash every node starts without a cache.
-- A row holds viewers and subjects, or a relation with a group and subjects, or a join with a value. No constraint
-- checks this: PostgreSQL reads its expression again in each statement, which takes a tenth of the time of a trigger.
create unlogged table rollcall_internal.visibility_log (
  id bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  viewers uuid[],
  subjects uuid[],
  relation text,
  group_id text,
  policy_join text,
  join_value text,
  reason text not null,
  noted_at timestamptz not null default now()
);
comment on table rollcall_internal.visibility_log is
  'Which viewers must be queried again about which subjects. Kept for two minutes. Unlogged.';
comment on column rollcall_internal.visibility_log.viewers is
  'Null with subjects: the viewers that are related to a subject or follow it. Null without subjects: all viewers.';
comment on column rollcall_internal.visibility_log.subjects is
  'Null stands for all subjects. In a row with a group: the users that were added, removed or changed in it.';
comment on column rollcall_internal.visibility_log.relation is
  'team_members or participants, if members of a group changed. The reader finds the other members.';
comment on column rollcall_internal.visibility_log.group_id is 'The group of these members, as text.';
comment on column rollcall_internal.visibility_log.policy_join is
  'Where another table names whom a changed row concerns, as users_joined takes it. The reader finds them.';
comment on column rollcall_internal.visibility_log.join_value is 'The value in the changed row, as text.';
create index visibility_log_xid on rollcall_internal.visibility_log (xid);
-- For face_was_deleted.
create index visibility_log_deleted_faces on rollcall_internal.visibility_log (id) where reason = 'face deleted';
-- No policies: only the server reads it.
alter table rollcall_internal.visibility_log enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.visibility_log', 'viewers', false, null, 'ids only, deleted after two minutes'),
  ('rollcall_internal.visibility_log', 'subjects', false, null, 'ids only, deleted after two minutes');

-- IDs of transactions, positions in the log and sequences go back when a standby is promoted or a backup is restored.
-- Definer: called by the server. PL/pgSQL keeps the plan: each delivery of a change reads it.
create function rollcall_internal.cluster_identity() returns text
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select c.system_identifier || ':'
      || case when pg_is_in_recovery() then 'standby' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end
    from pg_control_system() c);
end
$$;
comment on function rollcall_internal.cluster_identity is
  'The cluster and its timeline; numbers that were read under another identity cannot be compared.';

-- Records that what these viewers see of these subjects may have changed, relations included. Null and more than 1,000
-- viewers stand for all viewers and all subjects: nodes do not know which viewers are newly related to a subject. Null
-- and more than 1,000 subjects stand for all subjects.
-- Invoker, with the search_path of its caller, because it costs less in the transactions of applications: only definer
-- functions call it.
create function rollcall_internal.note_visibility_change(p_viewers uuid[], p_subjects uuid[], p_reason text)
  returns void
  language plpgsql volatile security invoker
as $$
declare
  v_void pg_catalog.text;
begin
  insert into rollcall_internal.visibility_log (viewers, subjects, reason)
  values (
    case when pg_catalog.cardinality(p_viewers) <= 1000 then p_viewers end,
    case when pg_catalog.cardinality(p_viewers) <= 1000 and pg_catalog.cardinality(p_subjects) <= 1000 then p_subjects
      end,
    p_reason
  );
  -- Equal payloads of one transaction are sent once.
  v_void := rollcall_internal.notify('rollcall_visibility', '');
end
$$;
comment on function rollcall_internal.note_visibility_change is
  'Appends to the visibility log and notifies the nodes; null stands for all.';

-- Records that policies may answer differently to these viewers about these subjects, while relations stay as they are:
-- without viewers, only those that are related to a subject or follow it can be affected. Null and more than 1,000
-- users stand for all.
-- Invoker: see note_visibility_change.
create function rollcall_internal.note_policy_change(p_viewers uuid[], p_subjects uuid[], p_reason text) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_void pg_catalog.text;
begin
  insert into rollcall_internal.visibility_log (viewers, subjects, reason)
  values (
    case when pg_catalog.cardinality(p_viewers) <= 1000 then p_viewers end,
    case when pg_catalog.cardinality(p_subjects) <= 1000 then p_subjects end,
    p_reason
  );
  v_void := rollcall_internal.notify('rollcall_visibility', '');
end
$$;
comment on function rollcall_internal.note_policy_change is
  'Appends to the visibility log a change that leaves relations as they are, and notifies the nodes.';

-- Records that policies may answer differently about whom another table names for these values: a transaction does not
-- see the rows that another one adds there at the same time. Readers see both (sql/presence/pull.sql). More than 100
-- values stand for everybody.
-- Invoker: see note_visibility_change.
create function rollcall_internal.note_joined_change(p_join text, p_values text[], p_reason text) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(p_values) > 100 then
    v_void := rollcall_internal.note_policy_change(null, null, p_reason);
    return;
  end if;
  insert into rollcall_internal.visibility_log (policy_join, join_value, reason)
    select p_join, v.value, p_reason from pg_catalog.unnest(p_values) as v (value);
  v_void := rollcall_internal.notify('rollcall_visibility', '');
end
$$;
comment on function rollcall_internal.note_joined_change is
  'Appends to the visibility log a change that concerns users in rows of another table, and notifies the nodes.';

-- Records which users were added, removed or changed in which groups: the n-th user in the n-th group, each pair once.
-- More than 1,000 pairs are recorded as a change of everything. The other members of the groups are not read here: a
-- transaction does not see the members that another one adds at the same time. Readers see both
-- (sql/presence/pull.sql).
-- Invoker: see note_visibility_change.
create function rollcall_internal.note_members_change(p_relation text, p_groups text[], p_users uuid[], p_reason text)
  returns void
  language plpgsql volatile security invoker
as $$
declare
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(p_users) > 1000 then
    v_void := rollcall_internal.note_visibility_change(null, null, p_reason);
    return;
  end if;
  insert into rollcall_internal.visibility_log (relation, group_id, subjects, reason)
    select p_relation, moved.group_id, pg_catalog.array_agg(moved.user_id), p_reason
    from rows from (pg_catalog.unnest(p_groups), pg_catalog.unnest(p_users)) as moved (group_id, user_id)
    group by moved.group_id;
  v_void := rollcall_internal.notify('rollcall_visibility', '');
end
$$;
comment on function rollcall_internal.note_members_change is
  'Appends to the visibility log which users moved in which groups, and notifies the nodes.';

-- Definer: appends to a table that no API role may write.
create function rollcall.invalidate_visibility(p_viewers uuid[], p_subjects uuid[], p_reason text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.note_visibility_change(p_viewers, p_subjects, p_reason);
end
$$;
comment on function rollcall.invalidate_visibility is
  'Makes every node query row-level security again for these viewers and subjects; null stands for all. Without '
  'viewers, all viewers are queried again about all subjects.';
grant execute on function rollcall.invalidate_visibility to service_role;

-- Sends ids as notifications of the form `<ms since 1970>|<id>,<id>…`, at most 200 ids each, because a payload is
-- limited to 8,000 bytes.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_ids(p_channel text, p_ids uuid[]) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_nonce text;
  v_void text;
begin
  for v_first in 1 .. coalesce(cardinality(p_ids), 0) by 200 loop
    v_nonce := rollcall_internal.notification_nonce();
    v_void := rollcall_internal.notify(p_channel, rollcall_internal.notification_time() || '|'
      || array_to_string(rollcall_internal.mask_ids(v_nonce, p_ids[v_first : v_first + 199]), ','), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_ids is 'Sends ids as notifications, at most 200 per payload.';

-- Trigger functions ---------------------------------------------------------------------------------------------------

-- TRUNCATE has no transition tables, so all visibility is invalidated.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_truncated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.note_visibility_change(null, null, 'truncate ' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_truncated is 'Trigger function: a truncated table invalidates all visibility.';

-- Rows that name one subject: invalidates what every viewer sees of it. Relations do not depend on these tables.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_subjects_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[];
  v_void text;
begin
  case tg_op
    when 'INSERT' then select array(select n.user_id from new_rows n) into v_ids;
    when 'DELETE' then select array(select o.user_id from old_rows o) into v_ids;
    else select array(select n.user_id from new_rows n union select o.user_id from old_rows o) into v_ids;
  end case;
  if cardinality(v_ids) > 0 then
    v_void := rollcall_internal.note_policy_change(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_subjects_changed is
  'Trigger function: changed rows invalidate what anyone sees of their users.';

-- Members of a group: invalidates visibility between the members that changed and all members of their groups, the
-- earlier groups of changed rows included.
-- Arguments: the relation, the column that names the group.
-- Definer: see invalidate_visibility. The column name is a trigger argument from this schema only.
create function rollcall_internal.on_members_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_groups text[];
  v_users uuid[];
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
  v_void text;
begin
  execute format(
    'select array_agg(moved.group_id), array_agg(moved.user_id) from ('
    'select distinct changed.%I::text as group_id, changed.user_id from (%s) changed limit 1001) moved',
    tg_argv[1], v_rows) into v_groups, v_users;
  if v_users is not null then
    v_void := rollcall_internal.note_members_change(tg_argv[0], v_groups, v_users, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_members_changed is
  'Trigger function: changed memberships invalidate the visibility within the group.';

-- Whether a user is invisible decides who sees them type. Faces have triggers of their own.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_choices_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[];
  v_void text;
begin
  case tg_op
    when 'INSERT' then select array(select n.user_id from new_rows n where n.chosen = 'invisible') into v_ids;
    when 'DELETE' then select array(select o.user_id from old_rows o where o.chosen = 'invisible') into v_ids;
    else select array(
        select coalesce(n.user_id, o.user_id) from new_rows n full join old_rows o using (user_id)
        where (n.chosen is not distinct from 'invisible') <> (o.chosen is not distinct from 'invisible')
      ) into v_ids;
  end case;
  if cardinality(v_ids) > 0 then
    v_void := rollcall_internal.note_policy_change(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_choices_changed is
  'Trigger function: starting or ending invisibility invalidates who sees the user type.';

-- Invoker: writes only the new row.
create function rollcall_internal.set_updated_at() returns trigger
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function rollcall_internal.set_updated_at is 'Trigger function: sets updated_at.';
