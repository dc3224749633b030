-- Generated from supabase/schemas by `make schema`; edit those files instead.

-- schemas/09_personal_data.sql ---------------------------------------------------------------------------------------

-- Which columns name users, for export and erasure.

-- Every function that exports or erases reads this table.
create table rollcall.personal_data (
  relation regclass not null,
  column_name text not null,
  exported boolean not null,
  erase_order int,
  reason text,
  constraint personal_data_pkey primary key (relation, column_name),
  constraint personal_data_gives_a_reason check ((exported and erase_order is not null) or reason is not null)
);
comment on table rollcall.personal_data is
  'Every column that names a user: whether its rows are in that user''s export, and when they are deleted in an '
  'erasure. A table with such a column needs a row here.';
comment on column rollcall.personal_data.erase_order is 'Lower is deleted first; null is kept.';
comment on column rollcall.personal_data.reason is 'Why rows are not exported, or are kept.';
alter table rollcall.personal_data enable row level security;
create policy "everyone reads the registry" on rollcall.personal_data for select to authenticated using (true);
create policy "service_role reads" on rollcall.personal_data for select to service_role using (true);
revoke all on rollcall.personal_data from anon, authenticated, service_role;
grant select on rollcall.personal_data to authenticated, service_role;

-- schemas/10_visibility_log.sql --------------------------------------------------------------------------------------

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

-- schemas/15_relations.sql -------------------------------------------------------------------------------------------

-- How users are related: contacts, blocks, teams, conversations. Two users have at most one contact row, whoever
-- requested it.

-- Definer: a policy on team_members that reads team_members would recurse. Answers for auth.uid() only. PL/pgSQL,
-- because the body of an SQL function is planned again in every statement that calls it.
create function rollcall.my_teams() returns setof uuid
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 10
as $$
begin
  return query select m.team_id from rollcall.team_members m where m.user_id = auth.uid();
end
$$;
comment on function rollcall.my_teams is 'Teams of the caller.';
grant execute on function rollcall.my_teams to authenticated, service_role;

-- Rows of rollcall.conversations: of the built-in table of participants, and of the application's where its IDs are
-- UUIDs. Typing uses my_conversation_ids.
-- Definer: see my_teams. Answers for auth.uid() only.
create function rollcall.my_conversations() returns setof uuid
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 100
as $$
begin
  if not exists (select from rollcall_internal.own_tables o where o.relation = 'participants') then
    return query select p.conversation_id from rollcall.conversation_participants p where p.user_id = auth.uid();
  else
    return query
      select p.conversation_id from rollcall.conversation_participants p where p.user_id = auth.uid()
      union
      select rollcall_internal.text_as_uuid(c.id) from rollcall_internal.conversations_of(auth.uid()) as c (id)
        where rollcall_internal.text_as_uuid(c.id) is not null;
  end if;
end
$$;
comment on function rollcall.my_conversations is 'Conversations with messages that the caller takes part in.';
grant execute on function rollcall.my_conversations to authenticated, service_role;

create table rollcall.contacts (
  requester_id uuid not null,
  addressee_id uuid not null,
  accepted_at timestamptz,
  created_at timestamptz not null default now(),
  constraint contacts_pkey primary key (requester_id, addressee_id),
  constraint contacts_not_oneself check (requester_id <> addressee_id)
);
comment on table rollcall.contacts is 'Requested by one user, accepted by the other; counts once accepted_at is set.';
create index contacts_addressee_id on rollcall.contacts (addressee_id);
create unique index contacts_pair on rollcall.contacts (least(requester_id, addressee_id),
  greatest(requester_id, addressee_id));
alter table rollcall.contacts enable row level security;
create policy "both sides read a contact" on rollcall.contacts
  for select to authenticated
  using ((select auth.uid()) in (requester_id, addressee_id));
create policy "users request contacts" on rollcall.contacts
  for insert to authenticated
  with check (requester_id = (select auth.uid()) and accepted_at is null);
create policy "addressees accept contacts" on rollcall.contacts
  for update to authenticated
  using (addressee_id = (select auth.uid())) with check (addressee_id = (select auth.uid()));
create policy "both sides delete a contact" on rollcall.contacts
  for delete to authenticated
  using ((select auth.uid()) in (requester_id, addressee_id));
create policy "service_role has full access" on rollcall.contacts
  for all to service_role using (true) with check (true);
revoke all on rollcall.contacts from anon, authenticated, service_role;
grant select, delete, insert (requester_id, addressee_id), update (accepted_at) on rollcall.contacts to authenticated;
grant all on rollcall.contacts to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.contacts', 'requester_id', true, null, 'a relation of two users; either deletes it'),
  ('rollcall.contacts', 'addressee_id', true, null, 'a relation of two users; either deletes it');

-- Definer: see note_visibility_change.
create function rollcall_internal.on_contacts_changed() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[];
  v_void text;
begin
  case tg_op
    when 'INSERT' then
      v_ids := array(select n.requester_id from new_rows n union select n.addressee_id from new_rows n);
    when 'DELETE' then
      v_ids := array(select o.requester_id from old_rows o union select o.addressee_id from old_rows o);
    else
      v_ids := array(
        select n.requester_id from new_rows n union select n.addressee_id from new_rows n
        union select o.requester_id from old_rows o union select o.addressee_id from old_rows o
      );
  end case;
  if cardinality(v_ids) > 0 then
    v_void := rollcall_internal.note_visibility_change(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_contacts_changed is
  'Trigger function: changed contacts invalidate what both users see of each other.';

create trigger invalidate_after_insert after insert on rollcall.contacts
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_contacts_changed();
create trigger invalidate_after_update after update on rollcall.contacts
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_contacts_changed();
create trigger invalidate_after_delete after delete on rollcall.contacts
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_contacts_changed();
create trigger invalidate_after_truncate after truncate on rollcall.contacts
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.blocks (
  blocker_id uuid not null,
  blocked_id uuid not null,
  created_at timestamptz not null default now(),
  constraint blocks_pkey primary key (blocker_id, blocked_id),
  constraint blocks_not_oneself check (blocker_id <> blocked_id)
);
comment on table rollcall.blocks is
  'A block in either direction hides both users from each other and overrides everything else.';
create index blocks_blocked_id on rollcall.blocks (blocked_id);
alter table rollcall.blocks enable row level security;
-- Blocked users must not learn of the block.
create policy "own blocks" on rollcall.blocks
  for all to authenticated
  using (blocker_id = (select auth.uid())) with check (blocker_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.blocks
  for all to service_role using (true) with check (true);
revoke all on rollcall.blocks from anon, authenticated, service_role;
grant select, delete, insert (blocker_id, blocked_id) on rollcall.blocks to authenticated;
grant all on rollcall.blocks to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.blocks', 'blocker_id', true, null, 'kept after an erasure, so that blocked users stay blocked'),
  ('rollcall.blocks', 'blocked_id', false, null, 'another user''s choice, which blocked users must not learn of');

-- Definer: see note_visibility_change.
create function rollcall_internal.on_blocks_changed() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[];
  v_void text;
begin
  case tg_op
    when 'INSERT' then
      v_ids := array(select n.blocker_id from new_rows n union select n.blocked_id from new_rows n);
    when 'DELETE' then
      v_ids := array(select o.blocker_id from old_rows o union select o.blocked_id from old_rows o);
    else
      v_ids := array(
        select n.blocker_id from new_rows n union select n.blocked_id from new_rows n
        union select o.blocker_id from old_rows o union select o.blocked_id from old_rows o
      );
  end case;
  if cardinality(v_ids) > 0 then
    v_void := rollcall_internal.note_visibility_change(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_blocks_changed is
  'Trigger function: changed blocks invalidate what both users see of each other.';

create trigger invalidate_after_insert after insert on rollcall.blocks
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_blocks_changed();
create trigger invalidate_after_update after update on rollcall.blocks
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_blocks_changed();
create trigger invalidate_after_delete after delete on rollcall.blocks
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_blocks_changed();
create trigger invalidate_after_truncate after truncate on rollcall.blocks
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.teams (
  id uuid primary key default gen_random_uuid(),
  name text not null constraint teams_name_length check (char_length(name) between 1 and 255),
  owner_id uuid not null,
  created_at timestamptz not null default now()
);
comment on table rollcall.teams is 'Groups whose members see each other when their visibility is team.';
create index teams_owner_id on rollcall.teams (owner_id);
alter table rollcall.teams enable row level security;
create policy "members and owners read a team" on rollcall.teams
  for select to authenticated
  using (owner_id = (select auth.uid()) or id in (select rollcall.my_teams()));
create policy "owners manage a team" on rollcall.teams
  for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.teams
  for all to service_role using (true) with check (true);
revoke all on rollcall.teams from anon, authenticated, service_role;
grant select, delete, insert (id, name, owner_id), update (name) on rollcall.teams to authenticated;
grant all on rollcall.teams to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.teams', 'owner_id', true, null, 'a team belongs to its members too');

create table rollcall.team_members (
  team_id uuid not null references rollcall.teams (id) on delete cascade,
  user_id uuid not null,
  accepted_at timestamptz default now(),
  created_at timestamptz not null default now(),
  constraint team_members_pkey primary key (team_id, user_id)
);
comment on table rollcall.team_members is
  'Members of teams. Counts once accepted_at is set, so that owners can only invite.';
create index team_members_user_id on rollcall.team_members (user_id);
alter table rollcall.team_members enable row level security;
create policy "members read each other" on rollcall.team_members
  for select to authenticated
  using (team_id in (select rollcall.my_teams())
    or team_id in (select t.id from rollcall.teams t where t.owner_id = (select auth.uid())));
-- Without the consent of invited users anyone could create a team, add them, and see them as team members.
create policy "owners invite members" on rollcall.team_members
  for insert to authenticated
  with check (
    team_id in (select t.id from rollcall.teams t where t.owner_id = (select auth.uid()))
    and (accepted_at is null or user_id = (select auth.uid()))
  );
create policy "members accept for themselves" on rollcall.team_members
  for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "owners remove members, members leave" on rollcall.team_members
  for delete to authenticated
  using (user_id = (select auth.uid())
    or team_id in (select t.id from rollcall.teams t where t.owner_id = (select auth.uid())));
create policy "service_role has full access" on rollcall.team_members
  for all to service_role using (true) with check (true);
revoke all on rollcall.team_members from anon, authenticated, service_role;
grant select, delete, insert (team_id, user_id, accepted_at),
  update (accepted_at) on rollcall.team_members to authenticated;
grant all on rollcall.team_members to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.team_members', 'user_id', true, null, 'membership, not presence; members delete the row to leave');

create trigger invalidate_after_insert after insert on rollcall.team_members
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('team_members', 'team_id');
create trigger invalidate_after_update after update on rollcall.team_members
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('team_members', 'team_id');
create trigger invalidate_after_delete after delete on rollcall.team_members
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_members_changed('team_members', 'team_id');
create trigger invalidate_after_truncate after truncate on rollcall.team_members
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.conversations (
  id uuid primary key default gen_random_uuid(),
  title text constraint conversations_title_length check (char_length(title) <= 255),
  created_by uuid not null,
  created_at timestamptz not null default now(),
  last_message_at timestamptz
);
comment on table rollcall.conversations is 'Conversations, in which users type and write messages.';
comment on column rollcall.conversations.last_message_at is 'When the last message was written. Set by a trigger.';
create index conversations_created_by on rollcall.conversations (created_by);
alter table rollcall.conversations enable row level security;
create policy "participants read a conversation" on rollcall.conversations
  for select to authenticated
  using (created_by = (select auth.uid()) or id in (select rollcall.my_conversations()));
create policy "users create conversations" on rollcall.conversations
  for insert to authenticated
  with check (created_by = (select auth.uid()));
create policy "creators change a conversation" on rollcall.conversations
  for update to authenticated
  using (created_by = (select auth.uid())) with check (created_by = (select auth.uid()));
create policy "creators delete a conversation" on rollcall.conversations
  for delete to authenticated
  using (created_by = (select auth.uid()));
create policy "service_role has full access" on rollcall.conversations
  for all to service_role using (true) with check (true);
revoke all on rollcall.conversations from anon, authenticated, service_role;
grant select, delete, insert (id, title, created_by), update (title) on rollcall.conversations to authenticated;
grant all on rollcall.conversations to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.conversations', 'created_by', true, null, 'a conversation belongs to its participants too');

grant insert (last_message_at), update (last_message_at) on rollcall.conversations to service_role;

create table rollcall.conversation_participants (
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  joined_at timestamptz not null default now(),
  constraint conversation_participants_pkey primary key (conversation_id, user_id)
);
comment on table rollcall.conversation_participants is 'Who takes part in which conversation.';
create index conversation_participants_user_id on rollcall.conversation_participants (user_id);
alter table rollcall.conversation_participants enable row level security;
create policy "participants read each other" on rollcall.conversation_participants
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversations())
    or conversation_id in (select c.id from rollcall.conversations c where c.created_by = (select auth.uid())));
create policy "creators add participants" on rollcall.conversation_participants
  for insert to authenticated
  with check (conversation_id in (select c.id from rollcall.conversations c where c.created_by = (select auth.uid())));
create policy "creators remove participants, participants leave" on rollcall.conversation_participants
  for delete to authenticated
  using (user_id = (select auth.uid())
    or conversation_id in (select c.id from rollcall.conversations c where c.created_by = (select auth.uid())));
create policy "service_role has full access" on rollcall.conversation_participants
  for all to service_role using (true) with check (true);
revoke all on rollcall.conversation_participants from anon, authenticated, service_role;
grant select, delete, insert (conversation_id, user_id) on rollcall.conversation_participants to authenticated;
grant all on rollcall.conversation_participants to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.conversation_participants', 'user_id', true, null,
    'membership, not presence; participants delete the row to leave');

create trigger invalidate_after_insert after insert on rollcall.conversation_participants
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('participants', 'conversation_id');
create trigger invalidate_after_update after update on rollcall.conversation_participants
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('participants', 'conversation_id');
create trigger invalidate_after_delete after delete on rollcall.conversation_participants
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_members_changed('participants', 'conversation_id');
create trigger invalidate_after_truncate after truncate on rollcall.conversation_participants
  for each statement execute function rollcall_internal.on_truncated();

-- Accepted contacts, team members and participants of shared conversations. The policies on user_presence decide which
-- of them are visible.
-- Definer: reads relations without evaluating the policies of their tables. Answers for auth.uid() only.
create function rollcall.my_relations() returns setof uuid
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    select related.id
    from (
      select c.id from rollcall_internal.contacts_of(v_me) as c (id)
      union
      select t.id from rollcall_internal.team_mates_of(v_me) as t (id)
      union
      select p.id from rollcall_internal.conversation_mates_of(v_me) as p (id)
    ) related
    where related.id <> v_me;
end
$$;
comment on function rollcall.my_relations is 'Users related to the caller, whether visible or not.';
grant execute on function rollcall.my_relations to authenticated, service_role;

-- schemas/16_own_tables.sql ------------------------------------------------------------------------------------------

-- Where relations come from: the built-in tables, or tables of the application. Every policy, function and query reads
-- relations through the functions of this file and no other way. With a built-in table such a function is an SQL
-- function that the planner inlines; rollcall.use_table replaces it with one over the application's table.

create table rollcall_internal.own_tables (
  relation text not null constraint own_tables_pkey primary key
    constraint own_tables_relation_is_known check (relation in ('contacts', 'blocks', 'team_members', 'participants')),
  source regclass not null,
  user_column name not null,
  other_column name,
  group_column name,
  condition text,
  search_path text not null,
  shape text not null,
  definition text not null,
  followed_columns name[] not null,
  used_since timestamptz not null default now()
);
comment on table rollcall_internal.own_tables is
  'Tables of the application that relations are read from. A relation without a row comes from its built-in table.';
comment on column rollcall_internal.own_tables.search_path is 'The search_path under which the condition was declared.';
comment on column rollcall_internal.own_tables.shape is
  'Name of the table and types of its columns, as the functions were generated for.';
comment on column rollcall_internal.own_tables.definition is
  'The query that gives user_key and other_key, or group_key and user_key, with qualified names.';
comment on column rollcall_internal.own_tables.followed_columns is
  'The key columns and the columns that the condition reads: a change of another column changes no relation.';
-- No policies: only the server reads it.
alter table rollcall_internal.own_tables enable row level security;

-- A dropped table counts as not used, also before its row is deleted.
-- Definer: shows names only, from a schema that API roles may not use; service_role only.
create function rollcall.tables_in_use() returns table (relation text, source text, built_in boolean,
  user_column name, other_column name, group_column name, condition text, used_since timestamptz)
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select b.relation, coalesce(o.source, b.source) as source, o.relation is null as built_in,
    coalesce(o.user_column, b.user_column) as user_column, coalesce(o.other_column, b.other_column) as other_column,
    coalesce(o.group_column, b.group_column) as group_column, o.condition, o.used_since
  from (values
    ('contacts', 'rollcall.contacts', 'requester_id'::name, 'addressee_id'::name, null::name),
    ('blocks', 'rollcall.blocks', 'blocker_id', 'blocked_id', null),
    ('team_members', 'rollcall.team_members', 'user_id', null, 'team_id'),
    ('participants', 'rollcall.conversation_participants', 'user_id', null, 'conversation_id')
  ) as b (relation, source, user_column, other_column, group_column)
  left join (
    select t.relation, format('%I.%I', n.nspname, c.relname) as source, t.user_column, t.other_column, t.group_column,
      t.condition, t.used_since
    from rollcall_internal.own_tables t
    join pg_catalog.pg_class c on c.oid = t.source
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  ) o on o.relation = b.relation
$$;
comment on function rollcall.tables_in_use is 'The rows of rollcall.used_tables.';
grant execute on function rollcall.tables_in_use to service_role;

-- Invoker: whoever may call the function reads its rows.
create view rollcall.used_tables with (security_invoker = true) as
  select t.relation, t.source, t.built_in, t.user_column, t.other_column, t.group_column, t.condition, t.used_since
  from rollcall.tables_in_use() t;
comment on view rollcall.used_tables is
  'The table that each relation is read from: a built-in one, or one that rollcall.use_table declared.';
revoke all on rollcall.used_tables from anon, authenticated, service_role;
grant select on rollcall.used_tables to service_role;

-- Keys as text --------------------------------------------------------------------------------------------------------

-- Invoker: computes from its argument. Without settings, so that it is inlined.
create function rollcall_internal.text_as_uuid(p_text text) returns uuid
  language sql immutable security invoker
as $$
  select case when p_text ~* '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'
    then p_text::pg_catalog.uuid end
$$;
comment on function rollcall_internal.text_as_uuid is 'Text as UUID, or null where it is none.';

-- Invoker: computes from its argument. Without settings, so that it is inlined.
create function rollcall_internal.text_as_bigint(p_text text) returns bigint
  language sql immutable security invoker
as $$
  select case when p_text ~ '^-?[0-9]{1,19}$'
    then case when p_text::numeric between -9223372036854775808 and 9223372036854775807 then p_text::bigint end end
$$;
comment on function rollcall_internal.text_as_bigint is 'Text as integer, or null where it is none.';

-- Built-in tables -----------------------------------------------------------------------------------------------------

-- Invoker and without settings, so that all of these are inlined into the calling statement. For the server only.

create function rollcall_internal.built_in_contacts_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select c.addressee_id from rollcall.contacts c where c.requester_id = p_user and c.accepted_at is not null
  union all
  select c.requester_id from rollcall.contacts c where c.addressee_id = p_user and c.accepted_at is not null
$$;
comment on function rollcall_internal.built_in_contacts_of is 'Accepted contacts of a user in the built-in table.';

create function rollcall_internal.built_in_blocked_with(p_user uuid) returns setof uuid
  language sql stable security invoker rows 10
as $$
  select b.blocked_id from rollcall.blocks b where b.blocker_id = p_user
  union all
  select b.blocker_id from rollcall.blocks b where b.blocked_id = p_user
$$;
comment on function rollcall_internal.built_in_blocked_with is
  'Users on the other side of a block, in either direction, in the built-in table.';

create function rollcall_internal.built_in_blocks_between(p_one uuid, p_other uuid) returns setof boolean
  language sql stable security invoker rows 1
as $$
  select true from rollcall.blocks b where b.blocker_id = p_one and b.blocked_id = p_other
  union all
  select true from rollcall.blocks b where b.blocker_id = p_other and b.blocked_id = p_one
$$;
comment on function rollcall_internal.built_in_blocks_between is
  'One row per block between two users in the built-in table.';

create function rollcall_internal.built_in_team_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select theirs.user_id from rollcall.team_members mine
  join rollcall.team_members theirs using (team_id)
  where mine.user_id = p_user and mine.accepted_at is not null and theirs.accepted_at is not null
$$;
comment on function rollcall_internal.built_in_team_mates_of is
  'Members of the teams of a user, the user included, in the built-in table.';

create function rollcall_internal.built_in_team_members_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select m.user_id from rollcall.team_members m
  where m.accepted_at is not null
    and m.team_id = any (array(select rollcall_internal.text_as_uuid(g.id) from pg_catalog.unnest(p_groups) as g (id)))
$$;
comment on function rollcall_internal.built_in_team_members_in is 'Members of some teams in the built-in table.';

create function rollcall_internal.built_in_conversations_of(p_user uuid) returns setof text
  language sql stable security invoker rows 50
as $$
  select p.conversation_id::pg_catalog.text from rollcall.conversation_participants p where p.user_id = p_user
$$;
comment on function rollcall_internal.built_in_conversations_of is 'Conversations of a user in the built-in table.';

create function rollcall_internal.built_in_conversation_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select theirs.user_id from rollcall.conversation_participants mine
  join rollcall.conversation_participants theirs using (conversation_id)
  where mine.user_id = p_user
$$;
comment on function rollcall_internal.built_in_conversation_mates_of is
  'Participants of the conversations of a user, the user included, in the built-in table.';

create function rollcall_internal.built_in_participants_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select p.user_id from rollcall.conversation_participants p
  where p.conversation_id = any (array(select rollcall_internal.text_as_uuid(g.id)
    from pg_catalog.unnest(p_groups) as g (id)))
$$;
comment on function rollcall_internal.built_in_participants_in is
  'Participants of some conversations in the built-in table.';

create function rollcall_internal.built_in_conversation_id_kind() returns setof text
  language sql stable security invoker rows 1
as $$
  select 'uuid'
$$;
comment on function rollcall_internal.built_in_conversation_id_kind is 'The type of IDs of built-in conversations.';

-- Tables in use -------------------------------------------------------------------------------------------------------

-- The functions that everything else calls. As created here they read the built-in tables;
-- rollcall_internal.write_relation_functions replaces the body. Invoker, as above.

create function rollcall_internal.contacts_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_contacts_of($1) $$;
comment on function rollcall_internal.contacts_of is 'Accepted contacts of a user.';

create function rollcall_internal.blocked_with(p_user uuid) returns setof uuid
  language sql stable security invoker rows 10
as $$ select * from rollcall_internal.built_in_blocked_with($1) $$;
comment on function rollcall_internal.blocked_with is 'Users on the other side of a block, in either direction.';

create function rollcall_internal.blocks_between(p_one uuid, p_other uuid) returns setof boolean
  language sql stable security invoker rows 1
as $$ select * from rollcall_internal.built_in_blocks_between($1, $2) $$;
comment on function rollcall_internal.blocks_between is 'One row per block between two users.';

create function rollcall_internal.team_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_team_mates_of($1) $$;
comment on function rollcall_internal.team_mates_of is 'Members of the teams of a user, the user included.';

create function rollcall_internal.team_members_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_team_members_in($1) $$;
comment on function rollcall_internal.team_members_in is 'Members of some teams.';

create function rollcall_internal.conversations_of(p_user uuid) returns setof text
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_conversations_of($1) $$;
comment on function rollcall_internal.conversations_of is 'IDs of the conversations of a user.';

create function rollcall_internal.conversation_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_conversation_mates_of($1) $$;
comment on function rollcall_internal.conversation_mates_of is
  'Participants of the conversations of a user, the user included.';

create function rollcall_internal.participants_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_participants_in($1) $$;
comment on function rollcall_internal.participants_in is 'Participants of some conversations.';

create function rollcall_internal.conversation_id_kind() returns setof text
  language sql stable security invoker rows 1
as $$ select * from rollcall_internal.built_in_conversation_id_kind() $$;
comment on function rollcall_internal.conversation_id_kind is 'Type of IDs of conversations: uuid, bigint or text.';

-- Null if the members cannot be read, because the condition of a table in use raises an error or the table is locked:
-- such a group must not delay the changes of others.
-- Stable, so that it reads in the snapshot of the calling statement. Invoker: called by the server.
create function rollcall_internal.members_of_group(p_relation text, p_group text) returns uuid[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
  if p_relation = 'team_members' then
    return array(
      select m.id from rollcall_internal.team_members_in(array[p_group]) as m (id) where m.id is not null);
  end if;
  return array(select m.id from rollcall_internal.participants_in(array[p_group]) as m (id) where m.id is not null);
exception when others then
  raise warning 'Rollcall cannot read the members of a group of %: %', p_relation, sqlerrm
    using hint = 'Declare the table again with rollcall.use_table.';
  return null;
end
$$;
comment on function rollcall_internal.members_of_group is
  'Members of a team or participants of a conversation; null if they cannot be read.';

-- The one spelling of an ID that typing_indicators stores: UUIDs in lower case with hyphens, integers without leading
-- zeros, other text as it is.
-- Definer: reads which table is used, from a schema that API roles may not use.
create function rollcall.conversation_key(p_id text) returns text
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind constant text := (select k from rollcall_internal.conversation_id_kind() k);
  v_key constant text := case v_kind
    when 'uuid' then rollcall_internal.text_as_uuid(p_id)::text
    when 'bigint' then rollcall_internal.text_as_bigint(p_id)::text
    else case when char_length(p_id) between 1 and 255 and p_id !~ '[[:cntrl:]]' then p_id end
  end;
begin
  if v_key is null then
    raise exception 'conversation_id: must be %', case v_kind when 'uuid' then 'a UUID' when 'bigint' then 'an integer'
      else 'text of 1 to 255 characters without control characters' end using errcode = 'invalid_text_representation';
  end if;
  return v_key;
end
$$;
comment on function rollcall.conversation_key is
  'The stored form of a conversation ID; raises 22P02 for an invalid one.';
grant execute on function rollcall.conversation_key to authenticated, service_role;

-- Definer: reads the participants of all conversations without their policies. Answers for auth.uid() only. PL/pgSQL,
-- because the body of an SQL function is planned again in every statement that calls it.
create function rollcall.my_conversation_ids() returns setof text
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 100
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query select c.id from rollcall_internal.conversations_of(v_me) as c (id);
end
$$;
comment on function rollcall.my_conversation_ids is
  'IDs of the conversations that the caller takes part in, from the table in use.';
grant execute on function rollcall.my_conversation_ids to authenticated, service_role;

-- Following changes ---------------------------------------------------------------------------------------------------

-- Argument: the relation. Compares the rows of one statement as multisets of the followed columns, so that a change of
-- another column, such as the time of the last visit, invalidates nothing. An error here must not fail the
-- application's statement: everything is invalidated instead.
-- Definer: see invalidate_visibility. Column names come from own_tables, which only use_table writes.
create function rollcall_internal.on_own_table_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_own rollcall_internal.own_tables;
  v_columns text;
  v_rows text;
  v_ids uuid[];
  v_groups text[];
  v_void text;
begin
  select o.* into v_own from rollcall_internal.own_tables o where o.relation = tg_argv[0];
  if not found then
    return null;
  end if;
  -- The user first, then the other user or the group, then what the condition reads.
  v_columns := format('%I::text as a, %I::text as b', v_own.user_column,
    coalesce(v_own.other_column, v_own.group_column))
    || (select coalesce(string_agg(format(', %I::text as c%s', f.name, f.place), '' order by f.place), '')
        from unnest(v_own.followed_columns) with ordinality as f (name, place));
  v_rows := case tg_op
    when 'INSERT' then format('select %s from new_rows', v_columns)
    when 'DELETE' then format('select %s from old_rows', v_columns)
    else format('(select %1$s from new_rows except all select %1$s from old_rows) union all '
      '(select %1$s from old_rows except all select %1$s from new_rows)', v_columns) end;
  if v_own.group_column is null then
    execute format('select array(select distinct rollcall_internal.text_as_uuid(side.id) from (%s) changed '
      'cross join lateral (values (changed.a), (changed.b)) side (id) '
      'where rollcall_internal.text_as_uuid(side.id) is not null)', v_rows) into v_ids;
    if cardinality(v_ids) > 0 then
      v_void := rollcall_internal.note_visibility_change(v_ids, v_ids, v_own.source::text);
    end if;
    return null;
  end if;
  execute format('select array_agg(moved.b), array_agg(moved.id) from (select distinct changed.b, '
    'rollcall_internal.text_as_uuid(changed.a) as id from (%s) changed '
    'where rollcall_internal.text_as_uuid(changed.a) is not null and changed.b is not null limit 1001) moved',
    v_rows) into v_groups, v_ids;
  if v_ids is not null then
    v_void := rollcall_internal.note_members_change(v_own.relation, v_groups, v_ids, v_own.source::text);
  end if;
  return null;
exception when others then
  raise warning 'Rollcall cannot follow %: %', tg_relid::regclass, sqlerrm
    using hint = 'Declare the table again with rollcall.use_table.';
  v_void := rollcall_internal.note_visibility_change(null, null, tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_own_table_changed is
  'Trigger function: changed rows of a table in use invalidate visibility between the users that they concern.';

-- On the table, and on its partitions and children, because a statement on one of these does not fire the triggers of
-- its parent. Existing triggers stay as they are.
-- Invoker: called by definer functions only.
create function rollcall_internal.follow_own_table(p_relation text, p_source regclass) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    with recursive part (id) as (
      select p_source::oid
      union
      select i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.id
    )
    select part.id::regclass as source, format('rollcall_follow_%s_%s', p_relation, o.verb) as name, o.verb,
      o.transitions, o.action
    from part
    cross join (values
      ('insert', 'referencing new table as new_rows', 'on_own_table_changed'),
      ('update', 'referencing old table as old_rows new table as new_rows', 'on_own_table_changed'),
      ('delete', 'referencing old table as old_rows', 'on_own_table_changed'),
      ('truncate', '', 'on_truncated')
    ) as o (verb, transitions, action)
    where not exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = part.id and t.tgname = format('rollcall_follow_%s_%s', p_relation, o.verb))
    order by part.id, o.verb
  loop
    execute format('create trigger %I after %s on %s %s for each statement execute function rollcall_internal.%I(%L)',
      v_trigger.name, v_trigger.verb, v_trigger.source, v_trigger.transitions, v_trigger.action, p_relation);
  end loop;
end
$$;
comment on function rollcall_internal.follow_own_table is
  'Creates the triggers on a table that a relation is read from.';

-- Each change of such a table may change relations of users that its rows do not name, so the triggers of its own that
-- rollcall.watch or Rollcall creates do not suffice.
-- Invoker: called by definer functions only.
create function rollcall_internal.follow_condition_table(p_table regclass) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create or replace trigger rollcall_condition after insert or update or delete or truncate on %s
    for each statement execute function rollcall_internal.on_watched_table_changed()', p_table);
end
$$;
comment on function rollcall_internal.follow_condition_table is
  'Creates the trigger on a table that the condition of a table in use reads.';

-- Invoker: called by definer functions only.
create function rollcall_internal.unfollow_own_tables(p_relation text) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgrelid::regclass as source, t.tgname as name
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'rollcall_internal'::regnamespace
    where not t.tgisinternal
      and t.tgname in (select format('rollcall_follow_%s_%s', p_relation, o.verb)
        from unnest(array['insert', 'update', 'delete', 'truncate']) as o (verb))
  loop
    execute format('drop trigger %I on %s', v_trigger.name, v_trigger.source);
  end loop;
end
$$;
comment on function rollcall_internal.unfollow_own_tables is
  'Drops the triggers of a relation on the application''s tables.';

-- Generated functions -------------------------------------------------------------------------------------------------

-- The name is qualified, because search_path has no schema with tables.
-- Invoker: reads catalogs only.
create function rollcall_internal.own_table_shape(p_source regclass, p_columns name[]) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select p_source::text || ' ' || string_agg(format('%I %s', c.name, pg_catalog.format_type(a.atttypid, null)), ', '
    order by c.place)
  from unnest(p_columns) with ordinality as c (name, place)
  left join pg_catalog.pg_attribute a on a.attrelid = p_source and a.attname = c.name and not a.attisdropped
  where c.name is not null
$$;
comment on function rollcall_internal.own_table_shape is 'Name of a table and types of some of its columns.';

-- A domain counts as its base type; smallint and integer count as bigint; null is a type that cannot be a key.
-- Invoker: reads catalogs only.
create function rollcall_internal.key_kind(p_source regclass, p_column name) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.oid = 'uuid'::regtype then 'uuid'
    when t.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'bigint'
    when t.typcategory = 'S' then 'text'
  end
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = rollcall_internal.base_type(a.atttypid)
  where a.attrelid = p_source and a.attname = p_column and a.attnum > 0 and not a.attisdropped
$$;
comment on function rollcall_internal.key_kind is 'Kind of a key column: uuid, bigint or text.';

-- Invoker: computes from its argument.
create function rollcall_internal.functions_of_relation(p_relation text) returns setof text
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select unnest(case p_relation
    when 'contacts' then array['contacts_of']
    when 'blocks' then array['blocked_with', 'blocks_between']
    when 'team_members' then array['team_mates_of', 'team_members_in']
    when 'participants' then array['conversations_of', 'conversation_mates_of', 'participants_in',
      'conversation_id_kind']
  end)
$$;
comment on function rollcall_internal.functions_of_relation is 'Names of the functions that read a relation.';

-- Bodies over the application's table. %1$s is its definition; mine and theirs of a group are joined by the raw column,
-- so that its index is used.
-- Invoker: computes from a row.
create function rollcall_internal.own_relation_queries(p_own rollcall_internal.own_tables)
  returns table (function_name text, query text)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_source constant text := format('(%s)', p_own.definition);
  v_user constant text := rollcall_internal.key_kind(p_own.source, p_own.user_column);
  v_group constant text := rollcall_internal.key_kind(p_own.source, p_own.group_column);
  -- A parameter as the user or other column compares with it, and such a column as UUID.
  v_is constant text := case v_user when 'uuid' then '%s.%s::uuid = %s' else '%s.%s::text = %s::text' end;
  v_get constant text := case v_user when 'uuid' then '%s.%s::uuid'
    else 'rollcall_internal.text_as_uuid(%s.%s::text)' end;
  v_groups constant text := case v_group
    when 'uuid' then 'array(select rollcall_internal.text_as_uuid(g.id) from pg_catalog.unnest(p_groups) as g (id))'
    when 'bigint' then 'array(select rollcall_internal.text_as_bigint(g.id) from pg_catalog.unnest(p_groups) as g (id))'
    else 'p_groups' end;
  v_group_key constant text := case v_group when 'text' then 'r.group_key::text' else 'r.group_key' end;
  v_pairs text;
  v_mates text;
  v_members text;
begin
  v_pairs := format('select %s from %s r where %s union all select %s from %s r where %s',
    format(v_get, 'r', 'other_key'), v_source, format(v_is, 'r', 'user_key', 'p_user'),
    format(v_get, 'r', 'user_key'), v_source, format(v_is, 'r', 'other_key', 'p_user'));
  v_mates := format('select %s from %s mine join %s theirs on theirs.group_key = mine.group_key where %s',
    format(v_get, 'theirs', 'user_key'), v_source, v_source, format(v_is, 'mine', 'user_key', 'p_user'));
  v_members := format('select %s from %s r where %s = any (%s)', format(v_get, 'r', 'user_key'), v_source, v_group_key,
    v_groups);
  return query
    select q.name, q.query
    from (values
      ('contacts_of', v_pairs),
      ('blocked_with', v_pairs),
      ('blocks_between',
        format('select true from %s r where %s and %s union all select true from %s r where %s and %s',
          v_source, format(v_is, 'r', 'user_key', 'p_one'), format(v_is, 'r', 'other_key', 'p_other'),
          v_source, format(v_is, 'r', 'user_key', 'p_other'), format(v_is, 'r', 'other_key', 'p_one'))),
      ('team_mates_of', v_mates),
      ('team_members_in', v_members),
      ('conversations_of',
        format('select r.group_key::text from %s r where %s', v_source, format(v_is, 'r', 'user_key', 'p_user'))),
      ('conversation_mates_of', v_mates),
      ('participants_in', v_members),
      ('conversation_id_kind', format('select %L::text', v_group))
    ) as q (name, query)
    where q.name in (select f from rollcall_internal.functions_of_relation(p_own.relation) f);
end
$$;
comment on function rollcall_internal.own_relation_queries is
  'The queries of a relation''s functions over a table of the application.';

-- With the application's table a function is PL/pgSQL: it reads the built-in table once that table is dropped, and the
-- condition runs with the search_path under which it was declared.
-- Definer: the functions belong to the owner of Rollcall.
create function rollcall_internal.write_relation_functions(p_relation text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_own rollcall_internal.own_tables;
  v_is_own boolean;
  v_function record;
  v_built_in text;
begin
  select o.* into v_own from rollcall_internal.own_tables o where o.relation = p_relation;
  v_is_own := found;
  -- The functions have the signatures and estimates of those over the built-in tables.
  for v_function in
    select n.name, q.query, pg_catalog.pg_get_function_arguments(f.oid) as arguments,
      pg_catalog.format_type(f.prorettype, null) as result, f.prorows::int as expected_rows,
      (select coalesce(string_agg(format('$%s', i), ', '), '') from generate_series(1, f.pronargs) i) as parameters
    from rollcall_internal.functions_of_relation(p_relation) as n (name)
    join pg_catalog.pg_proc f
      on f.pronamespace = 'rollcall_internal'::regnamespace and f.proname = 'built_in_' || n.name
    left join rollcall_internal.own_relation_queries(v_own) q on v_is_own and q.function_name = n.name
  loop
    v_built_in := format('select * from rollcall_internal.built_in_%s(%s)', v_function.name, v_function.parameters);
    execute format('create or replace function rollcall_internal.%I(%s) returns setof %s '
        'language %s stable security invoker rows %s %s as %L',
      v_function.name, v_function.arguments, v_function.result, case when v_is_own then 'plpgsql' else 'sql' end,
      v_function.expected_rows,
      -- With pg_temp last, because the query names types without their schema.
      case when v_is_own then format('set search_path = %s, pg_temp', coalesce(nullif(v_own.search_path, ''), '""'))
        else '' end,
      case when v_is_own then format(e'\n#variable_conflict use_column\nbegin\n'
          '  if exists (select from rollcall_internal.own_tables o join pg_catalog.pg_class c on c.oid = o.source\n'
          '    where o.relation = %L)\n  then\n    return query %s;\n  else\n    return query %s;\n  end if;\nend\n',
          p_relation, v_function.query, v_built_in)
        else format(' %s ', v_built_in) end);
  end loop;
end
$$;
comment on function rollcall_internal.write_relation_functions is
  'Replaces the functions of a relation: over the table of the application in own_tables, else over the built-in one.';

-- Declaring tables ----------------------------------------------------------------------------------------------------

-- The query behind the functions, with all names qualified: PostgreSQL parses the condition under the caller's
-- search_path and prints it under one without schemas. Also the columns that it reads and the other tables.
-- Invoker and without a search_path of its own: called by use_table only, which has checked it.
create function rollcall_internal.define_own_table(p_own rollcall_internal.own_tables, out definition text,
  out followed_columns name[], out other_tables regclass[])
  language plpgsql volatile security invoker
as $$
declare
  v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
  v_source pg_catalog.text;
begin
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  v_source := p_own.source::pg_catalog.text;
  perform pg_catalog.set_config('search_path', v_path, true);
  begin
    execute pg_catalog.format('create view rollcall_internal.own_source as select %I as %I, %I as %I from %s%s',
      case when p_own.group_column is null then p_own.user_column else p_own.group_column end,
      case when p_own.group_column is null then 'user_key' else 'group_key' end,
      case when p_own.group_column is null then p_own.other_column else p_own.user_column end,
      case when p_own.group_column is null then 'other_key' else 'user_key' end,
      v_source, pg_catalog.format(case when p_own.condition is not null then ' where (%s)' else '' end,
        p_own.condition));
  exception when syntax_error or undefined_column or undefined_function or undefined_table or undefined_object
    or datatype_mismatch or ambiguous_column or ambiguous_function or grouping_error or windowing_error
    or feature_not_supported or wrong_object_type or invalid_text_representation or cannot_coerce
  then
    raise exception 'condition: %', sqlerrm using errcode = 'invalid_parameter_value',
      hint = 'The condition is an SQL expression over the columns of the table that gives true or false.';
  end;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  definition := pg_catalog.rtrim(pg_catalog.pg_get_viewdef('rollcall_internal.own_source'::pg_catalog.regclass), ';');
  select pg_catalog.array_agg(distinct a.attname) filter (where d.refobjid = p_own.source),
    pg_catalog.array_agg(distinct c.oid::pg_catalog.regclass) filter (where d.refobjid <> p_own.source)
  into followed_columns, other_tables
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
    and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> r.ev_class
  join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
  left join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid and a.attnum > 0
  where r.ev_class = 'rollcall_internal.own_source'::pg_catalog.regclass;
  drop view rollcall_internal.own_source;
  perform pg_catalog.set_config('search_path', v_path, true);
end
$$;
comment on function rollcall_internal.define_own_table is
  'Parses the declaration of a table: its query, the columns that it reads, and other tables in its condition.';

-- Invoker: computes from its argument.
create function rollcall_internal.check_relation(p_relation text) returns void
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from rollcall_internal.functions_of_relation(p_relation)) then
    raise exception 'relation: must be one of contacts, blocks, team_members, participants (got %)',
      coalesce(quote_literal(p_relation), 'null') using errcode = 'invalid_parameter_value';
  end if;
end
$$;
comment on function rollcall_internal.check_relation is 'Raises an error for a relation that does not exist.';

-- Everything that can be wrong with a declaration, in the order in which a caller mends it.
-- Invoker: called by use_table only, as the owner of Rollcall.
-- Over 60 lines: one refusal after the other, each with its message.
create function rollcall_internal.check_own_table(p_own rollcall_internal.own_tables) returns void
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind "char" := (select c.relkind from pg_catalog.pg_class c where c.oid = p_own.source);
  v_schema constant text := (select n.nspname from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = p_own.source);
  v_owner constant name := (select pg_catalog.pg_get_userbyid(c.relowner) from pg_catalog.pg_class c
    where c.oid = p_own.source);
  v_grouped constant boolean := p_own.relation in ('team_members', 'participants');
  v_column record;
begin
  perform rollcall_internal.check_relation(p_own.relation);
  if p_own.source is null or v_kind is null then
    raise exception 'source: must be a table' using errcode = 'invalid_parameter_value';
  end if;
  if v_schema in ('rollcall', 'rollcall_internal', 'pg_catalog', 'information_schema') or v_schema like 'pg\_%' then
    raise exception 'source: % is not a table of the application', p_own.source
      using errcode = 'wrong_object_type', hint = format('For the built-in table: select rollcall.use_built_in(%L);',
        p_own.relation);
  end if;
  if v_kind not in ('r', 'p') then
    raise exception 'source: % must be a table, because changes of it are followed by triggers', p_own.source
      using errcode = 'wrong_object_type', hint = 'Name the table behind the view, and give its filter as condition.';
  end if;
  for v_column in
    select * from (values
      ('user_column', p_own.user_column, true), ('other_column', p_own.other_column, not v_grouped),
      ('group_column', p_own.group_column, v_grouped)
    ) as c (parameter, name, wanted)
  loop
    if v_column.wanted and v_column.name is null then
      raise exception '%: is required for %', v_column.parameter, p_own.relation
        using errcode = 'invalid_parameter_value';
    elsif not v_column.wanted and v_column.name is not null then
      raise exception '%: does not apply to %', v_column.parameter, p_own.relation
        using errcode = 'invalid_parameter_value';
    elsif v_column.name is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_own.source and a.attname = v_column.name and a.attnum > 0 and not a.attisdropped)
    then
      raise exception '%: % has no column %', v_column.parameter, p_own.source, quote_ident(v_column.name)
        using errcode = 'undefined_column';
    elsif v_column.name is not null and coalesce(rollcall_internal.key_kind(p_own.source, v_column.name), '')
      <> all (case when v_column.parameter = 'group_column' then array['uuid', 'bigint', 'text']
        else array['uuid', 'text'] end)
    then
      raise exception '%: % of % must be %', v_column.parameter, quote_ident(v_column.name), p_own.source,
        case when v_column.parameter = 'group_column' then 'of type uuid, bigint or text'
          else 'of type uuid, or text that holds UUIDs' end
        using errcode = 'datatype_mismatch';
    end if;
  end loop;
  if p_own.user_column = coalesce(p_own.other_column, p_own.group_column) then
    raise exception 'user_column: must differ from the other column' using errcode = 'invalid_parameter_value';
  end if;
  if not pg_catalog.has_table_privilege(p_own.source, 'select')
    or not pg_catalog.has_table_privilege(p_own.source, 'trigger')
  then
    raise exception 'source: role % may not read % and create triggers on it', current_user, p_own.source
      using errcode = 'insufficient_privilege', hint = format('As its owner run: grant select, trigger on %s to %I;',
        p_own.source, current_user);
  end if;
  -- Rows that policies hide from the owner of Rollcall would be missing in silence.
  if pg_catalog.row_security_active(p_own.source) and not exists (
    select from pg_catalog.pg_policy p
    where p.polrelid = p_own.source and p.polpermissive and p.polcmd in ('r', '*')
      and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
      and exists (select from unnest(p.polroles) as r (id)
        where case when r.id = 0 then true else pg_catalog.pg_has_role(current_user, r.id, 'usage') end))
  then
    raise exception 'source: row-level security of % hides rows from role %', p_own.source, current_user
      using errcode = 'insufficient_privilege', hint = format('Run: grant %I to %I; or: create policy '
        '"Rollcall reads all rows" on %s for select to %2$I using (true);', v_owner, current_user, p_own.source);
  end if;
end
$$;
comment on function rollcall_internal.check_own_table is 'Raises an error for a declaration that cannot be used.';

-- Invoker: reads catalogs only.
create function rollcall_internal.unindexed_columns(p_own rollcall_internal.own_tables) returns setof name
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select c.name
  from unnest(array[p_own.user_column, p_own.other_column, p_own.group_column]) as c (name)
  join pg_catalog.pg_attribute a on a.attrelid = p_own.source and a.attname = c.name
  where not exists (
    select from pg_catalog.pg_index i where i.indrelid = p_own.source and i.indisvalid and i.indkey[0] = a.attnum)
$$;
comment on function rollcall_internal.unindexed_columns is 'Key columns of a table in use that no index begins with.';

-- Contacts and blocks: user_column and other_column, in either direction for contacts; blocks hide both sides.
-- Team members and participants: group_column and user_column. A later declaration of a relation replaces it.
-- Definer: it creates functions in rollcall_internal. Only the owner of Rollcall and superusers may call it: the
-- condition runs with the rights of the owner.
-- Without a search_path of its own: the condition is parsed under the caller's. check_search_path protects it.
create function rollcall.use_table(relation text, source regclass, user_column name default null,
  other_column name default null, group_column name default null, condition text default null) returns void
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_own rollcall_internal.own_tables;
  v_path pg_catalog.text;
  v_defined record;
  v_name pg_catalog.text;
begin
  v_path := pg_catalog.current_setting('search_path');
  v_own.relation := use_table.relation;
  v_own.source := use_table.source;
  v_own.user_column := use_table.user_column;
  v_own.other_column := use_table.other_column;
  v_own.group_column := use_table.group_column;
  v_own.condition := nullif(pg_catalog.btrim(use_table.condition), '');
  perform rollcall_internal.check_own_table(v_own);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rollcall.own_tables', 0));
  v_defined := rollcall_internal.define_own_table(v_own);
  perform rollcall_internal.replace_own_table(v_own, v_path, v_defined.definition, v_defined.followed_columns);
  foreach v_name in array coalesce(v_defined.other_tables::pg_catalog.text[], '{}'::pg_catalog.text[]) loop
    perform rollcall_internal.follow_condition_table(v_name::pg_catalog.regclass);
  end loop;
  for v_name in select c from rollcall_internal.unindexed_columns(v_own) c loop
    raise notice 'no index of % begins with the column %: each look-up reads the whole table', v_own.source,
      pg_catalog.quote_ident(v_name)
      using hint = pg_catalog.format('create index on %s (%I);', v_own.source, v_name);
  end loop;
end
$$;
comment on function rollcall.use_table is
  'Reads contacts, blocks, team members or participants from a table of the application instead of the built-in one.';

-- Invoker: called by definer functions only.
create function rollcall_internal.replace_own_table(p_own rollcall_internal.own_tables, p_path text, p_definition text,
  p_followed name[]) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if rollcall_internal.has_virtual_column(p_own.source, p_followed::text[]) then
    raise exception 'source: % is read through a virtual generated column, whose changes triggers do not see',
      p_own.source using errcode = 'feature_not_supported', hint = 'Make the generated column stored.';
  end if;
  insert into rollcall_internal.own_tables as o (relation, source, user_column, other_column, group_column, condition,
      search_path, shape, definition, followed_columns)
    values (p_own.relation, p_own.source, p_own.user_column, p_own.other_column, p_own.group_column, p_own.condition,
      coalesce(nullif(p_path, ''), ''''''),
      rollcall_internal.own_table_shape(p_own.source,
        array[p_own.user_column, p_own.other_column, p_own.group_column]), p_definition, p_followed)
    on conflict (relation) do update set
      source = excluded.source, user_column = excluded.user_column, other_column = excluded.other_column,
      group_column = excluded.group_column, condition = excluded.condition, search_path = excluded.search_path,
      shape = excluded.shape, definition = excluded.definition, followed_columns = excluded.followed_columns,
      used_since = excluded.used_since;
  perform rollcall_internal.unfollow_own_tables(p_own.relation);
  perform rollcall_internal.follow_own_table(p_own.relation, p_own.source);
  perform rollcall_internal.write_relation_functions(p_own.relation);
  perform rollcall_internal.relation_replaced(p_own.relation);
end
$$;
comment on function rollcall_internal.replace_own_table is
  'Stores the declaration of a table and generates its triggers and functions.';

-- IDs of other conversations may have another type, so nobody types any more.
-- Invoker and without a search_path of its own: it fires triggers of users, and callers may have one without schemas.
-- Called by definer functions only.
create function rollcall_internal.relation_replaced(p_relation text) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
  v_void pg_catalog.text;
begin
  if p_relation operator(pg_catalog.=) 'participants' then
    perform pg_catalog.set_config('search_path', rollcall.role_search_path('none'), true);
    perform rollcall_internal.check_search_path();
    delete from rollcall.typing_indicators;
    perform pg_catalog.set_config('search_path', v_path, true);
  end if;
  v_void := rollcall_internal.note_visibility_change(null, null, 'relation ' operator(pg_catalog.||) p_relation);
end
$$;
comment on function rollcall_internal.relation_replaced is 'Invalidates everything after a relation got another table.';

-- Definer: see use_table.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.use_built_in(relation text) returns boolean
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_found boolean;
begin
  perform rollcall_internal.check_relation(use_built_in.relation);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rollcall.own_tables', 0));
  delete from rollcall_internal.own_tables o where o.relation = use_built_in.relation;
  v_found := found;
  if v_found then
    perform rollcall_internal.unfollow_own_tables(use_built_in.relation);
    perform rollcall_internal.write_relation_functions(use_built_in.relation);
    perform rollcall_internal.relation_replaced(use_built_in.relation);
  end if;
  return v_found;
end
$$;
comment on function rollcall.use_built_in is
  'Reads a relation from its built-in table again; whether another one was in use.';

-- After DDL: forgets dropped tables, follows new partitions, and generates the functions again for a table that was
-- renamed or whose key columns have other types. What cannot be repaired stays as it is: then look-ups raise an error,
-- which shows nobody, and doctor reports it.
-- Definer: runs for any role that issues DDL.
-- Without a search_path of its own: conditions are parsed under the one that they were declared with.
create function rollcall_internal.refresh_own_tables() returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_own rollcall_internal.own_tables;
  v_defined record;
  v_path pg_catalog.text;
begin
  v_path := pg_catalog.current_setting('search_path');
  for v_own in select o.* from rollcall_internal.own_tables o order by o.relation loop
    begin
      if not exists (select from pg_catalog.pg_class c where c.oid = v_own.source) then
        perform rollcall.use_built_in(v_own.relation);
      elsif v_own.shape <> rollcall_internal.own_table_shape(v_own.source,
        array[v_own.user_column, v_own.other_column, v_own.group_column])
      then
        perform pg_catalog.set_config('search_path', v_own.search_path, true);
        v_defined := rollcall_internal.define_own_table(v_own);
        perform pg_catalog.set_config('search_path', v_path, true);
        perform rollcall_internal.replace_own_table(v_own, v_own.search_path, v_defined.definition,
          v_defined.followed_columns);
      else
        perform rollcall_internal.follow_own_table(v_own.relation, v_own.source);
      end if;
    exception when others then
      perform pg_catalog.set_config('search_path', v_path, true);
      raise warning 'Rollcall cannot read % from %: %', v_own.relation, v_own.source, sqlerrm
        using hint = 'Declare the table again with rollcall.use_table, or run rollcall.use_built_in.';
    end;
  end loop;
end
$$;
comment on function rollcall_internal.refresh_own_tables is 'Adapts to tables in use that were dropped or altered.';

-- Explaining ----------------------------------------------------------------------------------------------------------

-- The row of the application's table that names both users, whether or not the condition holds for it.
-- Definer: reads rows of all users. For explanations only.
create function rollcall_internal.own_evidence(p_relation text, p_viewer uuid, p_subject uuid) returns jsonb
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_own rollcall_internal.own_tables;
  v_row jsonb;
begin
  select o.* into v_own from rollcall_internal.own_tables o
    join pg_catalog.pg_class c on c.oid = o.source where o.relation = p_relation;
  if not found then
    return null;
  end if;
  if v_own.group_column is null then
    execute format('select to_jsonb(t) from %1$s t where t.%2$I::text = $1 and t.%3$I::text = $2
        union all select to_jsonb(t) from %1$s t where t.%2$I::text = $2 and t.%3$I::text = $1 limit 1',
      v_own.source, v_own.user_column, v_own.other_column) into v_row using p_viewer::text, p_subject::text;
  else
    execute format('select to_jsonb(theirs) from %1$s mine join %1$s theirs on theirs.%2$I = mine.%2$I
        where mine.%3$I::text = $1 and theirs.%3$I::text = $2 limit 1',
      v_own.source, v_own.group_column, v_own.user_column) into v_row using p_viewer::text, p_subject::text;
  end if;
  return jsonb_build_object('table', v_own.source::text, 'row', v_row);
end
$$;
comment on function rollcall_internal.own_evidence is
  'Table and row by which a table of the application relates two users; null while the built-in table is used.';

-- schemas/20_presence.sql --------------------------------------------------------------------------------------------

-- The tables of presence: what devices report, what users chose, and the faces that others read. Every table has
-- row-level security; without a policy only the owner reads a row.

create type rollcall.presence_status as enum ('online', 'away', 'busy', 'dnd', 'invisible', 'offline');
create type rollcall.presence_reach as enum ('online', 'away', 'offline');
create type rollcall.presence_face as enum ('public', 'trusted');
create type rollcall.presence_visibility as enum ('nobody', 'team', 'contacts', 'everyone');

-- Devices -------------------------------------------------------------------------------------------------------------

create table rollcall.presence_devices (
  user_id uuid not null,
  device_id text not null constraint presence_devices_device_id_length check (char_length(device_id) between 1 and 255),
  device_name text constraint presence_devices_device_name_length check (char_length(device_name) <= 255),
  device_type text constraint presence_devices_device_type_length check (char_length(device_type) <= 64),
  platform text constraint presence_devices_platform_length check (char_length(platform) <= 64),
  app_version text constraint presence_devices_app_version_length check (char_length(app_version) <= 64),
  status rollcall.presence_status not null default 'online'
    constraint presence_devices_status_is_of_a_device check (status in ('online', 'away', 'offline')),
  activity text constraint presence_devices_activity_length check (char_length(activity) <= 255),
  current_page text constraint presence_devices_current_page_length check (char_length(current_page) <= 2048),
  nodes uuid[] not null default '{}',
  session_started_at timestamptz not null default now(),
  last_heartbeat_at timestamptz not null default now(),
  last_active_at timestamptz not null default now(),
  idle_since timestamptz,
  signed_off_at timestamptz,
  background_seconds int
    constraint presence_devices_background_seconds_range check (background_seconds between 1 and 86400),
  live boolean not null generated always as (status <> 'offline') stored,
  active_conversation_id uuid,
  visible_conversation_ids uuid[] not null default '{}'
    constraint presence_devices_visible_conversations_count check (cardinality(visible_conversation_ids) <= 100),
  active_notebook_id uuid,
  active_persona_id uuid,
  last_navigation_path text
    constraint presence_devices_last_navigation_path_length check (char_length(last_navigation_path) <= 2048),
  navigation_history jsonb not null default '[]'
    constraint presence_devices_navigation_history_size
      check (jsonb_typeof(navigation_history) = 'array' and jsonb_array_length(navigation_history) <= 10),
  local_time text
    constraint presence_devices_local_time_length check (char_length(local_time) <= 64),
  context_updated_at timestamptz,
  context_version bigint,
  predicted_topic_ids uuid[] not null default '{}',
  predicted_entity_ids uuid[] not null default '{}',
  constraint presence_devices_pkey primary key (user_id, device_id)
-- Leaves space for heap-only updates: heartbeats update no indexed column.
) with (fillfactor = 80);
comment on table rollcall.presence_devices is
  'What each device of a user reports. A device is live unless it is offline.';
comment on column rollcall.presence_devices.nodes is
  'The nodes that hold a socket of this device; empty for a device that lives on heartbeats.';
comment on column rollcall.presence_devices.last_heartbeat_at is
  'The last moment at which the device is known to have been live.';
comment on column rollcall.presence_devices.signed_off_at is
  'Set when the client itself reported offline: a late heartbeat does not bring the device back.';
comment on column rollcall.presence_devices.background_seconds is
  'The device is in the background: without a socket it stays away for this time after it was last live. Null: it is '
  'not.';
comment on column rollcall.presence_devices.live is 'Whether the device is not offline.';
comment on column rollcall.presence_devices.visible_conversation_ids is
  'The conversations in view, for example in a sidebar; at most 100.';
comment on column rollcall.presence_devices.navigation_history is
  'The last ten paths in the application, oldest first: [{"path", "at"}]. Set by a trigger.';
comment on column rollcall.presence_devices.local_time is
  'The local time of the user as the device wrote it: 14:30, or with date and offset.';
comment on column rollcall.presence_devices.context_updated_at is
  'When a context signal last changed. Set by a trigger.';
comment on column rollcall.presence_devices.context_version is
  'Increases with every change of a context signal: the microsecond of the change. Set by a trigger.';
comment on column rollcall.presence_devices.predicted_topic_ids is
  'The topics that the last warm-up expected. Written by the server.';
comment on column rollcall.presence_devices.predicted_entity_ids is
  'The entities that the last warm-up expected. Written by the server.';
-- The sweep reads live devices only, a small part of an old database. On `live` instead of `status`: an update is
-- heap-only as long as no indexed column, predicates included, changes, and online to away is frequent.
create index presence_devices_live on rollcall.presence_devices (user_id) where live;
create index presence_devices_on_nodes on rollcall.presence_devices (user_id) where nodes <> '{}';
alter table rollcall.presence_devices enable row level security;
create policy "own devices" on rollcall.presence_devices
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_devices
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_devices from anon, authenticated, service_role;
grant select, delete on rollcall.presence_devices to authenticated;
grant insert (user_id, device_id, device_name, device_type, platform, app_version, status, activity, current_page,
    background_seconds),
  update (device_name, device_type, platform, app_version, status, activity, current_page, background_seconds)
  on rollcall.presence_devices to authenticated;
grant all on rollcall.presence_devices to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_devices', 'user_id', true, 10, null);

grant insert (active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time),
  update (active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time)
  on rollcall.presence_devices to authenticated;

-- Choices -------------------------------------------------------------------------------------------------------------

create table rollcall.presence_choices (
  user_id uuid primary key,
  chosen rollcall.presence_status
    constraint presence_choices_chosen_is_a_choice check (chosen in ('busy', 'dnd', 'invisible')),
  last_seen_when_hidden timestamptz,
  custom_status text constraint presence_choices_custom_status_length check (char_length(custom_status) <= 140),
  custom_status_expires_at timestamptz,
  updated_at timestamptz not null default now()
) with (fillfactor = 80);
comment on table rollcall.presence_choices is
  'What a user chose for all devices: busy, dnd or invisible, and the custom status.';
comment on column rollcall.presence_choices.last_seen_when_hidden is
  'What others read as last_seen while the user is invisible.';
create index presence_choices_expiring on rollcall.presence_choices (custom_status_expires_at)
  where custom_status_expires_at is not null;
alter table rollcall.presence_choices enable row level security;
create policy "own choices" on rollcall.presence_choices
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_choices
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_choices from anon, authenticated, service_role;
grant select, delete on rollcall.presence_choices to authenticated;
grant insert (user_id, chosen, custom_status, custom_status_expires_at),
  update (chosen, custom_status, custom_status_expires_at)
  on rollcall.presence_choices to authenticated;
grant all on rollcall.presence_choices to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_choices', 'user_id', true, 20, null);

create trigger invalidate_after_insert after insert on rollcall.presence_choices
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_choices_changed();
create trigger invalidate_after_update after update on rollcall.presence_choices
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_choices_changed();
create trigger invalidate_after_delete after delete on rollcall.presence_choices
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_choices_changed();
create trigger invalidate_after_truncate after truncate on rollcall.presence_choices
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.user_last_seen (
  user_id uuid primary key,
  last_seen timestamptz
) with (fillfactor = 80);
comment on table rollcall.user_last_seen is
  'The last moment at which any device was live; for a live user, to the minute. Its row is also the lock that orders '
  'the changes of one user. To erase a user, delete it after the devices.';
alter table rollcall.user_last_seen enable row level security;
create policy "own last seen" on rollcall.user_last_seen
  for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.user_last_seen
  for all to service_role using (true) with check (true);
revoke all on rollcall.user_last_seen from anon, authenticated, service_role;
grant select on rollcall.user_last_seen to authenticated;
grant all on rollcall.user_last_seen to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.user_last_seen', 'user_id', true, 60, null);

-- Settings ------------------------------------------------------------------------------------------------------------

create table rollcall.presence_settings (
  user_id uuid primary key,
  visibility rollcall.presence_visibility not null default 'contacts',
  show_last_seen boolean not null default true,
  show_activity boolean not null default true,
  show_custom_status boolean not null default true,
  show_typing boolean not null default true,
  updated_at timestamptz not null default now()
);
comment on table rollcall.presence_settings is
  'Who may see a user, and which fields they share. No row stands for the defaults.';
alter table rollcall.presence_settings enable row level security;
create policy "own settings" on rollcall.presence_settings
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_settings
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_settings from anon, authenticated, service_role;
grant select, delete on rollcall.presence_settings to authenticated;
grant insert (user_id, visibility, show_last_seen, show_activity, show_custom_status, show_typing),
  update (visibility, show_last_seen, show_activity, show_custom_status, show_typing)
  on rollcall.presence_settings to authenticated;
grant all on rollcall.presence_settings to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_settings', 'user_id', true, 30, null);

create trigger invalidate_after_insert after insert on rollcall.presence_settings
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_subjects_changed();
create trigger invalidate_after_update after update on rollcall.presence_settings
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_subjects_changed();
create trigger invalidate_after_delete after delete on rollcall.presence_settings
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_subjects_changed();
create trigger invalidate_after_truncate after truncate on rollcall.presence_settings
  for each statement execute function rollcall_internal.on_truncated();

create trigger set_updated_at before update on rollcall.presence_settings
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.presence_visibility_list (
  user_id uuid not null,
  viewer_id uuid not null,
  created_at timestamptz not null default now(),
  constraint presence_visibility_list_pkey primary key (user_id, viewer_id),
  constraint presence_visibility_list_not_oneself check (user_id <> viewer_id)
);
comment on table rollcall.presence_visibility_list is
  'Viewers that see the trusted face of a user, also while the user is invisible.';
create index presence_visibility_list_viewer_id on rollcall.presence_visibility_list (viewer_id);
alter table rollcall.presence_visibility_list enable row level security;
create policy "own visibility list" on rollcall.presence_visibility_list
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_visibility_list
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_visibility_list from anon, authenticated, service_role;
grant select, delete, insert (user_id, viewer_id) on rollcall.presence_visibility_list to authenticated;
grant all on rollcall.presence_visibility_list to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_visibility_list', 'user_id', true, 40, null),
  ('rollcall.presence_visibility_list', 'viewer_id', false, null,
    'another user''s choice, which listed users must not learn of');

-- Definer: see note_visibility_change.
create function rollcall_internal.on_visibility_list_changed() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then
      v_ids := array(select n.user_id from new_rows n union select n.viewer_id from new_rows n);
    when 'DELETE' then
      v_ids := array(select o.user_id from old_rows o union select o.viewer_id from old_rows o);
    else
      v_ids := array(
        select n.user_id from new_rows n union select n.viewer_id from new_rows n
        union select o.user_id from old_rows o union select o.viewer_id from old_rows o
      );
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_visibility_list_changed is
  'Trigger function: changed entries invalidate what both users see of each other.';

create trigger invalidate_after_insert after insert on rollcall.presence_visibility_list
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_visibility_list_changed();
create trigger invalidate_after_update after update on rollcall.presence_visibility_list
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_visibility_list_changed();
create trigger invalidate_after_delete after delete on rollcall.presence_visibility_list
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_visibility_list_changed();
create trigger invalidate_after_truncate after truncate on rollcall.presence_visibility_list
  for each statement execute function rollcall_internal.on_truncated();

-- Faces ---------------------------------------------------------------------------------------------------------------

-- Whether a face was deleted within about two minutes. Policies still show it, so that those who saw it receive its
-- DELETE.
-- Definer: reads a log that no API role may read.
create function rollcall_internal.face_was_deleted(p_user uuid) returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from rollcall_internal.visibility_log v
    where v.reason = 'face deleted' and (v.subjects is null or p_user = any (v.subjects))
  )
$$;
comment on function rollcall_internal.face_was_deleted is 'Whether a face of the user was deleted a moment ago.';

-- The trusted face of users that have the caller on their visibility list; the public face of contacts and team
-- members whose settings allow it; no user on either side of a block. Returns a set, because a policy evaluates it
-- once per statement (a hashed subplan); a check per row costs 30 µs per row.
-- Only faces that exist: else the caller could tell a contact that was never seen from one that blocked the caller.
-- Definer: reads blocks, settings and lists of other users, which the caller must not see. Answers for auth.uid()
-- only, so it returns nothing that `select` on user_presence would not.
create function rollcall.my_visible_users() returns table (subject_id uuid, face rollcall.presence_face)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 50
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with
    hidden as (
      select b.id from rollcall_internal.blocked_with(v_me) as b (id) where b.id is not null
    ),
    listed as (
      select l.user_id as id from rollcall.presence_visibility_list l where l.viewer_id = v_me
    ),
    related as (
      select c.id, 'contacts'::rollcall.presence_visibility as how from rollcall_internal.contacts_of(v_me) as c (id)
      union all
      select t.id, 'team' from rollcall_internal.team_mates_of(v_me) as t (id)
    ),
    candidate as (
      select l.id, 'trusted'::rollcall.presence_face as face
      from listed l
      where l.id not in (select h.id from hidden h)
      union
      select r.id, 'public'
      from related r
      left join rollcall.presence_settings s on s.user_id = r.id
      where coalesce(s.visibility, 'contacts') in (r.how, 'everyone')
        and r.id <> v_me
        and r.id not in (select h.id from hidden h)
        and r.id not in (select l.id from listed l)
    )
    select c.id, c.face
    from candidate c
    -- By a scalar subquery, because a join or `exists` may read the whole table.
    where coalesce((select true from rollcall.user_presence p where p.user_id = c.id and p.face = c.face),
      rollcall_internal.face_was_deleted(c.id));
end
$$;
comment on function rollcall.my_visible_users is 'Users that the caller sees by relation, and which face of each.';
grant execute on function rollcall.my_visible_users to authenticated, service_role;

-- Definer: see my_visible_users.
create function rollcall.can_see_user(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me uuid;
begin
  -- One lookup settles nearly all rows.
  perform from rollcall.presence_settings s where s.user_id = p_subject and s.visibility = 'everyone';
  if not found then
    return false;
  end if;
  v_me := auth.uid();
  return v_me is not null
    and not exists (select from rollcall_internal.blocks_between(v_me, p_subject))
    and not exists (select from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = v_me)
    and (exists (select from rollcall.user_presence p where p.user_id = p_subject and p.face = 'public')
      or rollcall_internal.face_was_deleted(p_subject));
end
$$;
comment on function rollcall.can_see_user is
  'Whether a user has a public face and shows it to everyone, and the caller is not blocked.';
grant execute on function rollcall.can_see_user to authenticated, service_role;

create table rollcall.user_presence (
  user_id uuid not null,
  face rollcall.presence_face not null,
  status rollcall.presence_status not null,
  reach rollcall.presence_reach not null,
  last_seen timestamptz,
  custom_status text,
  activity text,
  current_page text,
  idle_since timestamptz,
  -- A sequence would count the changes of users that the reader may not see. A face that is created again continues
  -- above its earlier numbers, because it changes less often than once per microsecond.
  version bigint not null default (extract(epoch from clock_timestamp()) * 1000000)::bigint,
  constraint user_presence_pkey primary key (user_id, face)
) with (fillfactor = 80);
comment on table rollcall.user_presence is
  'The two faces of each user. Policies return at most one row of a user to each viewer, so hidden fields are not in '
  'that row. Derived: change presence_devices, presence_choices or presence_settings instead, or call '
  'rollcall.set_status().';
comment on column rollcall.user_presence.status is 'The full value: online, away, busy, dnd, invisible or offline.';
comment on column rollcall.user_presence.reach is
  'online, away or offline: busy and dnd read online, invisible reads what the devices report.';
comment on column rollcall.user_presence.version is
  'Increases by one with every state of the row; starts at the microsecond in which the row was created. Comparable '
  'only within one face of one user.';
alter table rollcall.user_presence enable row level security;
create policy "users read their trusted face" on rollcall.user_presence
  for select to authenticated
  using (user_id = (select auth.uid()) and face = 'trusted');
create policy "viewers read the face shown to them" on rollcall.user_presence
  for select to authenticated
  using (
    user_id <> (select auth.uid())
    and (
      (user_id, face) in (select s.subject_id, s.face from rollcall.my_visible_users() s)
      or (face = 'public' and rollcall.can_see_user(user_id))
    )
  );
create policy "service_role has full access" on rollcall.user_presence
  for all to service_role using (true) with check (true);
revoke all on rollcall.user_presence from anon, authenticated, service_role;
grant select on rollcall.user_presence to authenticated;
grant all on rollcall.user_presence to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.user_presence', 'user_id', true, 70, null);

-- A new face changes visibility as well as state: viewers that found nothing before must be queried again.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_faces_inserted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids constant uuid[] := array(select distinct n.user_id from new_rows n);
begin
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_policy_change(null, v_ids, 'face inserted');
    perform rollcall_internal.notify_ids('rollcall_presence', v_ids);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_inserted is 'Trigger function: notifies nodes of new faces.';

-- A face changed in SQL gets a version and a reach here. In a statement trigger, because a trigger before each row
-- would cost every refresh a lock per row; so one change makes two updates, of which the second counts.
-- Definer: see invalidate_visibility.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_faces_updated() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  if current_setting('rollcall.batch', true) is distinct from 'on' then
    perform set_config('rollcall.batch', 'on', true);
    update rollcall.user_presence p set
        version = p.version + 1,
        reach = case n.status when 'invisible' then n.reach when 'away' then 'away' when 'offline' then 'offline'
          else 'online' end
      from new_rows n
      where p.user_id = n.user_id and p.face = n.face;
    perform set_config('rollcall.batch', '', true);
  end if;
  if exists (select from new_rows) then
    perform rollcall_internal.notify_ids('rollcall_presence', array(select distinct n.user_id from new_rows n));
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_updated is 'Trigger function: notifies nodes of changed faces.';

-- Definer: see invalidate_visibility.
create function rollcall_internal.on_faces_deleted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids constant uuid[] := array(select distinct o.user_id from old_rows o);
begin
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_policy_change(null, v_ids, 'face deleted');
    perform rollcall_internal.notify_ids('rollcall_presence', v_ids);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_deleted is 'Trigger function: notifies nodes of deleted faces.';

create trigger notify_after_insert after insert on rollcall.user_presence
  referencing new table as new_rows for each statement execute function rollcall_internal.on_faces_inserted();
create trigger notify_after_update after update on rollcall.user_presence
  referencing new table as new_rows for each statement execute function rollcall_internal.on_faces_updated();
create trigger notify_after_delete after delete on rollcall.user_presence
  referencing old table as old_rows for each statement execute function rollcall_internal.on_faces_deleted();
create trigger invalidate_after_truncate after truncate on rollcall.user_presence
  for each statement execute function rollcall_internal.on_truncated();

-- A row that gets another user or face invalidates all visibility, because the old user is not known here.
create trigger invalidate_after_renaming after update of user_id, face on rollcall.user_presence
  for each statement execute function rollcall_internal.on_truncated();

-- Publication ---------------------------------------------------------------------------------------------------------

create table rollcall_internal.publication (
  only_row boolean not null default true
    constraint publication_pkey primary key constraint publication_is_one_row check (only_row),
  published oid not null
);
comment on table rollcall_internal.publication is
  'The publication supabase_realtime to which user_presence was added, by OID. One row.';
-- No policies: only the server uses it.
alter table rollcall_internal.publication enable row level security;

-- A publication that was dropped and created again has another OID and gets the table back; a table that was dropped
-- from a publication stays out.
-- Definer: the owner of Rollcall must own the publication; doctor reports it otherwise.
create function rollcall_internal.publish_presence() returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_publication record;
begin
  select p.oid, p.puballtables into v_publication from pg_catalog.pg_publication p
    where p.pubname = 'supabase_realtime';
  if not found or exists (select from rollcall_internal.publication k where k.published = v_publication.oid) then
    return false;
  end if;
  if not v_publication.puballtables and not exists (
    select from pg_catalog.pg_publication_tables t
    where t.pubname = 'supabase_realtime' and t.schemaname = 'rollcall' and t.tablename = 'user_presence')
  then
    alter publication supabase_realtime add table rollcall.user_presence;
  end if;
  insert into rollcall_internal.publication (published) values (v_publication.oid)
    on conflict (only_row) do update set published = excluded.published;
  return true;
exception when insufficient_privilege then
  return false;
end
$$;
comment on function rollcall_internal.publish_presence is
  'Adds user_presence to the publication supabase_realtime once per publication; whether it did.';

do $$ begin perform rollcall_internal.publish_presence(); end $$;

-- schemas/25_presence_faces.sql --------------------------------------------------------------------------------------

-- Triggers recompute faces from devices, choices and settings, in the transaction that changed them. A face is written
-- only when it differs, so a heartbeat or a repeat causes no notification. All writers lock in one order: choices,
-- devices, settings, the row in user_last_seen, faces; several users in the order of their ids. So writers of one
-- statement wait for each other without deadlocks. The setting rollcall.batch, local to a transaction, tells these
-- triggers that the writer refreshes faces itself and that its rows are complete.

-- One row per user and face. `known` is false for a user without any data (there must be no face); `shown` is false
-- for a face that must not be created: a user who was never seen and is invisible must not become known by it.
-- Invoker, without settings, so that it is inlined into the calling statement. For the server only.
-- Over 60 lines: one statement.
create function rollcall_internal.faces_of(p_users uuid[], p_now timestamptz) returns table (
  user_id uuid, face rollcall.presence_face, status rollcall.presence_status, reach rollcall.presence_reach,
  last_seen timestamptz, custom_status text, activity text, current_page text, idle_since timestamptz,
  known boolean, shown boolean, last_seen_before timestamptz
)
  language sql stable security invoker
as $$
  with fact as materialized (
    select
      l.user_id,
      coalesce(device.live, false) as live,
      (case
        when device.live is not true then 'offline' when c.chosen is not null then c.chosen
        when device.active then 'online' else 'away'
      end)::rollcall.presence_status as status,
      (case
        when device.live is not true then 'offline' when device.active or c.chosen in ('busy', 'dnd') then 'online'
          else 'away'
      end)::rollcall.presence_reach as reach,
      case
        when device.live then p_now
        else pg_catalog.date_trunc('milliseconds', greatest(l.last_seen, device.last_heartbeat_at))
      end as last_seen,
      case when device.idle then device.idle_since end as idle_since,
      -- From the device used last that has a value. Few devices have one, so it is looked up only for users that do.
      case when device.tells then (
        select d.activity from rollcall.presence_devices d
        where d.user_id = l.user_id and d.live and d.activity is not null
        order by d.last_active_at desc, d.device_id limit 1
      ) end as activity,
      case when device.tells then (
        select d.current_page from rollcall.presence_devices d
        where d.user_id = l.user_id and d.live and d.current_page is not null
        order by d.last_active_at desc, d.device_id limit 1
      ) end as current_page,
      case when c.custom_status_expires_at is null or c.custom_status_expires_at > p_now then c.custom_status end
        as custom_status,
      c.chosen is not distinct from 'invisible' as hidden,
      c.last_seen_when_hidden,
      coalesce(s.show_last_seen, true) as show_last_seen,
      coalesce(s.show_activity, true) as show_activity,
      coalesce(s.show_custom_status, true) as show_custom_status,
      s.user_id is not null as has_settings,
      l.last_seen is not null or device.user_id is not null or c.user_id is not null or s.user_id is not null as known,
      l.last_seen as last_seen_before
    from rollcall.user_last_seen l
    left join (
      select
        d.user_id,
        bool_or(d.live) as live,
        bool_or(d.status = 'online' and d.idle_since is null) as active,
        bool_and(d.idle_since is not null) filter (where d.live) as idle,
        max(d.idle_since) filter (where d.live) as idle_since,
        bool_or(d.live and (d.activity is not null or d.current_page is not null)) as tells,
        max(d.last_heartbeat_at) as last_heartbeat_at
      from rollcall.presence_devices d
      where d.user_id = any (p_users)
      group by d.user_id
    ) device on device.user_id = l.user_id
    left join rollcall.presence_choices c on c.user_id = l.user_id and c.user_id = any (p_users)
    left join rollcall.presence_settings s on s.user_id = l.user_id and s.user_id = any (p_users)
    where l.user_id = any (p_users)
  )
  select
    f.user_id, 'trusted'::rollcall.presence_face, f.status, f.reach, f.last_seen, f.custom_status,
    f.activity, f.current_page, f.idle_since, f.known, true, f.last_seen_before
  from fact f
  union all
  -- An invisible user shows what an offline user shows: only the last_seen of the moment of going invisible.
  select
    f.user_id, 'public', 'offline', 'offline',
    case when not f.show_last_seen then null when f.hidden then f.last_seen_when_hidden else f.last_seen end,
    null, null, null, null,
    f.known, not f.hidden or f.last_seen_when_hidden is not null or f.has_settings, f.last_seen_before
  from fact f
  where f.hidden or not f.live
  union all
  select
    f.user_id, 'public', f.status, f.reach,
    case when f.show_last_seen then f.last_seen end,
    case when f.show_custom_status then f.custom_status end,
    case when f.show_activity then f.activity end,
    case when f.show_activity then f.current_page end,
    case when f.show_last_seen then f.idle_since end,
    f.known, true, f.last_seen_before
  from fact f
  where f.live and not f.hidden
$$;
comment on function rollcall_internal.faces_of is
  'Computes the faces of some users from devices, choices and settings.';

-- Locks one row per user in the order of ids, so that concurrent changes of one user follow each other. Each statement
-- of a volatile function has its own snapshot, so everything read after the lock includes earlier changes. That holds
-- in read committed only; other isolation levels are refused. Its plans are generic and fixed, so they must not depend
-- on table sizes at planning time: each table is read by `user_id = any`, an index scan in the order of ids, and
-- joined by hash. That is linear whatever the statistics say; a nested loop over a table that was empty at planning
-- time is not.
-- Definer: called by triggers of users who may not write faces. For the server only.
-- Over 60 lines: the lock, the comparison and both writes share one snapshot each.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.refresh_faces(p_users uuid[]) returns void
  language plpgsql volatile security definer
  set plan_cache_mode = force_generic_plan set jit = off
  set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_batch constant pg_catalog.text := coalesce(current_setting('rollcall.batch', true), '');
  v_users pg_catalog.uuid[] := p_users;
  v_now pg_catalog.timestamptz;
  v_new pg_catalog.uuid[];
  v_gone pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(v_users) <> 1 or v_users[1] is null then
    v_users := array(select distinct w.id from pg_catalog.unnest(p_users) as w (id) where w.id is not null
      order by w.id);
  end if;
  if v_users = '{}' then
    return;
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'presence can only be changed in read committed'
      using errcode = 'feature_not_supported',
        detail = 'A snapshot taken before the user was locked may miss what another transaction has changed.';
  end if;
  v_void := set_config('rollcall.batch', 'on', true);

  -- Creates or locks the row in one statement and in order: `on conflict do update` also locks rows that it does not
  -- update.
  insert into rollcall.user_last_seen as l (user_id) select w.id from pg_catalog.unnest(v_users) as w (id)
    on conflict (user_id) do update set last_seen = l.last_seen where false;
  v_now := date_trunc('milliseconds', clock_timestamp());

  with face as materialized (
    select
      f.*,
      p.user_id is null as missing,
      (f.status, f.reach, f.custom_status, f.activity, f.current_page, f.idle_since)
        is distinct from (p.status, p.reach, p.custom_status, p.activity, p.current_page, p.idle_since)
      -- While a user is shown as live, last_seen alone is no change.
      or ((f.reach = 'offline' or (f.last_seen is null) <> (p.last_seen is null)) and p.last_seen is distinct
        from f.last_seen)
        as differs
    from rollcall_internal.faces_of(v_users, v_now) f
    left join rollcall.user_presence p on p.user_id = f.user_id and p.face = f.face and p.user_id = any (v_users)
  ),
  seen as (
    -- For a live user once a minute: devices have the exact time, and deleting a device writes it first.
    update rollcall.user_last_seen l set last_seen = f.last_seen
    from face f
    where l.user_id = f.user_id and l.user_id = any (v_users)
      and f.face = 'trusted' and f.known
      and (f.last_seen_before is null and f.last_seen is not null
        or f.last_seen > f.last_seen_before + case when f.reach = 'offline' then interval '0'
          else interval '1 minute' end)
  ),
  changed as (
    update rollcall.user_presence p set
      status = f.status, reach = f.reach, last_seen = f.last_seen, custom_status = f.custom_status,
      activity = f.activity, current_page = f.current_page, idle_since = f.idle_since,
      version = p.version + 1
    from face f
    where p.user_id = f.user_id and p.face = f.face and p.user_id = any (v_users)
      and f.differs and f.known and not f.missing
  )
  select
    pg_catalog.array_agg(f.user_id) filter (where f.known),
    pg_catalog.array_agg(f.user_id) filter (where not f.known)
  into v_new, v_gone
  from face f
  where f.missing and f.shown or not f.known;

  if v_new is not null then
    insert into rollcall.user_presence
      (user_id, face, status, reach, last_seen, custom_status, activity, current_page, idle_since)
    select f.user_id, f.face, f.status, f.reach, f.last_seen, f.custom_status, f.activity, f.current_page, f.idle_since
    from rollcall_internal.faces_of(array(select distinct n from pg_catalog.unnest(v_new) n), v_now) f
    where f.known and f.shown
    on conflict (user_id, face) do nothing;
  end if;
  if v_gone is not null then
    delete from rollcall.user_presence p where p.user_id = any (v_gone);
    delete from rollcall.user_last_seen l where l.user_id = any (v_gone);
  end if;
  v_void := set_config('rollcall.batch', v_batch, true);
end
$$;
comment on function rollcall_internal.refresh_faces is
  'Recomputes the faces of some users and writes those that differ.';

-- What an invisible user shows as last_seen is fixed when the choice is made, before it takes effect.
-- Definer: reads presence that the caller may not see; writes only the new row.
create function rollcall_internal.before_presence_choice() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := now();
  if new.custom_status is null then
    new.custom_status_expires_at := null;
  end if;
  if new.chosen is distinct from 'invisible' then
    new.last_seen_when_hidden := null;
  elsif tg_op = 'INSERT' or old.chosen is distinct from 'invisible' then
    new.last_seen_when_hidden := date_trunc('milliseconds', case
      when exists (select from rollcall.presence_devices d where d.user_id = new.user_id and d.live)
        then clock_timestamp()
      else (select l.last_seen from rollcall.user_last_seen l where l.user_id = new.user_id) end);
  end if;
  return new;
end
$$;
comment on function rollcall_internal.before_presence_choice is
  'Trigger function: sets updated_at and the last_seen that others read while the user is invisible.';

create trigger before_presence_choice before insert or update on rollcall.presence_choices
  for each row execute function rollcall_internal.before_presence_choice();

-- Fires for changes that do not set rollcall.batch.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_inserted() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := rollcall_internal.refresh_faces(array(select n.user_id from new_rows n));
  return null;
end
$$;
comment on function rollcall_internal.on_source_inserted is
  'Trigger function: recomputes the faces of users whose devices, choices, settings or last_seen were inserted.';

-- Fires for changes that do not set rollcall.batch.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_updated() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := rollcall_internal.refresh_faces(array(select n.user_id from new_rows n union all select o.user_id
    from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_source_updated is
  'Trigger function: recomputes the faces of users whose devices, choices, settings or last_seen were updated.';

-- Fires for changes that do not set rollcall.batch.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_deleted() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := rollcall_internal.refresh_faces(array(select o.user_id from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_source_deleted is
  'Trigger function: recomputes the faces of users whose devices, choices, settings or last_seen were deleted.';

-- Sets the timestamps that the server would set with a status, unless the same statement sets them. In a statement
-- trigger, because a trigger before each row would cost every batch a lock per row.
-- Definer: see refresh_faces; users may not write these columns.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_devices_updated() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_now constant pg_catalog.timestamptz := clock_timestamp();
  -- Names and context signals are not presence.
  v_users constant pg_catalog.uuid[] := array(
    select coalesce(n.user_id, o.user_id)
    from new_rows n
    full join old_rows o on o.user_id = n.user_id and o.device_id = n.device_id
    where (n.status, n.activity, n.current_page, n.idle_since, n.last_heartbeat_at, n.last_active_at)
      is distinct from (o.status, o.activity, o.current_page, o.idle_since, o.last_heartbeat_at, o.last_active_at)
  );
  v_void pg_catalog.text;
begin
  if v_users = '{}' then
    return null;
  end if;
  v_void := set_config('rollcall.batch', 'on', true);
  update rollcall.presence_devices d set
      -- A device with a socket was live until now; one on heartbeats until the last heartbeat.
      last_heartbeat_at = case
        when n.last_heartbeat_at = o.last_heartbeat_at and (n.live or o.live and o.nodes <> '{}') then v_now
        else n.last_heartbeat_at end,
      signed_off_at = case
        when n.signed_off_at is distinct from o.signed_off_at or n.live = o.live then n.signed_off_at
        when n.live then null else v_now end,
      background_seconds = case when n.status = 'away' then n.background_seconds end,
      session_started_at = case
        when n.session_started_at = o.session_started_at and n.live and not o.live then v_now
        else n.session_started_at end,
      last_active_at = case
        when n.last_active_at = o.last_active_at and n.idle_since is not distinct from o.idle_since and n.live
          then v_now
        else n.last_active_at end,
      idle_since = case
        when n.last_active_at = o.last_active_at and n.idle_since is not distinct from o.idle_since and n.live then null
        else n.idle_since end
    from new_rows n
    join old_rows o on o.user_id = n.user_id and o.device_id = n.device_id
    where d.user_id = n.user_id and d.device_id = n.device_id
      and (n.status, n.activity, n.current_page) is distinct from (o.status, o.activity, o.current_page);
  v_void := set_config('rollcall.batch', '', true);
  v_void := rollcall_internal.refresh_faces(v_users);
  return null;
end
$$;
comment on function rollcall_internal.on_devices_updated is
  'Trigger function: completes changes of devices made in SQL and recomputes faces.';

-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_devices_deleted() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := set_config('rollcall.batch', 'on', true);
  insert into rollcall.user_last_seen as l (user_id, last_seen)
    select o.user_id, date_trunc('milliseconds',
      max(case when o.live and o.nodes <> '{}' then clock_timestamp() else o.last_heartbeat_at end))
    from old_rows o
    group by o.user_id
    order by o.user_id
    on conflict (user_id) do update set last_seen = greatest(l.last_seen, excluded.last_seen);
  v_void := set_config('rollcall.batch', '', true);
  v_void := rollcall_internal.refresh_faces(array(select o.user_id from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_devices_deleted is
  'Trigger function: keeps the last_seen of deleted devices and recomputes faces.';

-- TRUNCATE has no transition tables: this runs before it, on_source_truncated after it.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_truncating() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := set_config('rollcall.batch', 'on', true);
  insert into rollcall.user_last_seen as l (user_id, last_seen)
    select d.user_id, date_trunc('milliseconds',
      max(case when d.live and d.nodes <> '{}' then clock_timestamp() else d.last_heartbeat_at end))
    from rollcall.presence_devices d
    group by d.user_id
    order by d.user_id
    on conflict (user_id) do update set last_seen = greatest(l.last_seen, excluded.last_seen);
  v_void := set_config('rollcall.batch', '', true);
  return null;
end
$$;
comment on function rollcall_internal.on_source_truncating is
  'Trigger function: keeps the last_seen of all devices before TRUNCATE.';

-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_truncated() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := rollcall_internal.refresh_faces(array(
    select l.user_id from rollcall.user_last_seen l union all select p.user_id from rollcall.user_presence p));
  return null;
end
$$;
comment on function rollcall_internal.on_source_truncated is 'Trigger function: recomputes all faces after TRUNCATE.';

create trigger record_before_truncate before truncate on rollcall.presence_devices
  for each statement execute function rollcall_internal.on_source_truncating();

create trigger refresh_after_insert after insert on rollcall.presence_devices
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.presence_devices
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_devices_updated();
create trigger refresh_after_delete after delete on rollcall.presence_devices
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_devices_deleted();
create trigger refresh_after_truncate after truncate on rollcall.presence_devices
  for each statement execute function rollcall_internal.on_source_truncated();

create trigger refresh_after_insert after insert on rollcall.presence_choices
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.presence_choices
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_updated();
create trigger refresh_after_delete after delete on rollcall.presence_choices
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_deleted();
create trigger refresh_after_truncate after truncate on rollcall.presence_choices
  for each statement execute function rollcall_internal.on_source_truncated();

create trigger refresh_after_insert after insert on rollcall.presence_settings
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.presence_settings
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_updated();
create trigger refresh_after_delete after delete on rollcall.presence_settings
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_deleted();
create trigger refresh_after_truncate after truncate on rollcall.presence_settings
  for each statement execute function rollcall_internal.on_source_truncated();

create trigger refresh_after_insert after insert on rollcall.user_last_seen
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.user_last_seen
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_updated();
create trigger refresh_after_delete after delete on rollcall.user_last_seen
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_deleted();
create trigger refresh_after_truncate after truncate on rollcall.user_last_seen
  for each statement execute function rollcall_internal.on_source_truncated();

-- schemas/26_presence_events.sql -------------------------------------------------------------------------------------

-- What faces tell back ends: events, and who was online from when to when. Both are written in the transaction that
-- changes a face, and only while event_settings asks for them.

create table rollcall.presence_sessions (
  id uuid not null default gen_random_uuid() constraint presence_sessions_pkey primary key,
  user_id uuid not null,
  face rollcall.presence_face not null,
  started_at timestamptz not null,
  ended_at timestamptz constraint presence_sessions_end_follows_start check (ended_at >= started_at)
);
comment on table rollcall.presence_sessions is
  'Who was online or away from when to when, for each face: while a user is invisible the public face is offline. '
  'Recorded while event_settings.presence_sessions is true. A viewer reads sessions of the faces whose last_seen the '
  'viewer reads.';
comment on column rollcall.presence_sessions.ended_at is 'Null while it lasts.';
create unique index presence_sessions_open on rollcall.presence_sessions (user_id, face) where ended_at is null;
create index presence_sessions_of_user on rollcall.presence_sessions (user_id, face, started_at);
create index presence_sessions_ended_at on rollcall.presence_sessions (ended_at);
alter table rollcall.presence_sessions enable row level security;
-- The policies on user_presence decide who sees which face. Without a last_seen, history is hidden as well.
create policy "viewers read sessions of the faces shown to them" on rollcall.presence_sessions
  for select to authenticated
  using ((user_id, face) in (
    select p.user_id, p.face from rollcall.user_presence p where p.last_seen is not null));
create policy "service_role has full access" on rollcall.presence_sessions
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_sessions from anon, authenticated, service_role;
grant select on rollcall.presence_sessions to authenticated;
grant all on rollcall.presence_sessions to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_sessions', 'user_id', true, 90, null);

create type rollcall_internal.face_change as (
  user_id uuid, face rollcall.presence_face, was rollcall.presence_reach, reach rollcall.presence_reach,
  previous rollcall.presence_status, status rollcall.presence_status, custom_status text, last_seen timestamptz,
  differs boolean
);

-- The trusted face tells back ends, which see what service_role sees.
-- Definer: writes tables that users may only read.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.record_face_changes(p_changes rollcall_internal.face_change[],
  p_settings rollcall.event_settings) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_now constant pg_catalog.timestamptz := pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp());
begin
  if p_settings.presence_sessions then
    update rollcall.presence_sessions s set ended_at = greatest(s.started_at, coalesce(c.last_seen, v_now))
      from pg_catalog.unnest(p_changes) c
      where s.user_id = c.user_id and s.face = c.face and s.ended_at is null and c.reach = 'offline';
    insert into rollcall.presence_sessions (user_id, face, started_at)
      select c.user_id, c.face, v_now from pg_catalog.unnest(p_changes) c
      where c.was = 'offline' and c.reach <> 'offline'
      on conflict (user_id, face) where ended_at is null do nothing;
  end if;
  if p_settings.records_presence then
    insert into rollcall_internal.event_queue (type, user_id, data, occurred_at)
      select case when c.was = 'offline' and c.reach <> 'offline' then 'user.online'
          when c.reach = 'offline' and c.was <> 'offline' then 'user.offline' else 'user.status' end,
        c.user_id,
        pg_catalog.jsonb_build_object('user_id', c.user_id, 'status', c.status, 'previous_status', c.previous,
          'reach', c.reach, 'custom_status', c.custom_status, 'last_seen', rollcall.iso_time(c.last_seen)),
        v_now
      from pg_catalog.unnest(p_changes) c
      where c.face = 'trusted' and (c.differs or (c.was = 'offline') <> (c.reach = 'offline'));
  end if;
end
$$;
comment on function rollcall_internal.record_face_changes is 'Records events and sessions of faces that changed.';

-- Definer: see record_face_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it; the statement before it
-- uses qualified names and no operators, and is all that a change of faces costs while nobody asks for events.
create function rollcall_internal.on_faces_inserted_record() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_settings rollcall.event_settings;
begin
  select s.* into v_settings from rollcall.event_settings s where s.records_presence or s.presence_sessions;
  if found then
    perform rollcall_internal.check_search_path();
    perform rollcall_internal.record_face_changes(array(
      select (n.user_id, n.face, 'offline', n.reach, 'offline', n.status, n.custom_status, n.last_seen, false)
        ::rollcall_internal.face_change
      from new_rows n where n.reach <> 'offline' order by n.user_id, n.face), v_settings);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_inserted_record is 'Trigger function: records new faces.';

-- Definer: see record_face_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_faces_updated_record() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_settings rollcall.event_settings;
  v_changes rollcall_internal.face_change[];
begin
  select s.* into v_settings from rollcall.event_settings s where s.records_presence or s.presence_sessions;
  if not found then
    return null;
  end if;
  perform rollcall_internal.check_search_path();
  v_changes := array(
    select (n.user_id, n.face, o.reach, n.reach, o.status, n.status, n.custom_status, n.last_seen,
      (o.status, o.custom_status) is distinct from (n.status, n.custom_status))::rollcall_internal.face_change
    from new_rows n
    join old_rows o on o.user_id = n.user_id and o.face = n.face
    where (o.reach = 'offline') <> (n.reach = 'offline')
      or n.face = 'trusted' and (o.status, o.custom_status) is distinct from (n.status, n.custom_status)
    order by n.user_id, n.face);
  if v_changes <> '{}' then
    perform rollcall_internal.record_face_changes(v_changes, v_settings);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_updated_record is 'Trigger function: records changed faces.';

-- Definer: see record_face_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_faces_deleted_record() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_settings rollcall.event_settings;
begin
  select s.* into v_settings from rollcall.event_settings s where s.records_presence or s.presence_sessions;
  if found then
    perform rollcall_internal.check_search_path();
    perform rollcall_internal.record_face_changes(array(
      select (o.user_id, o.face, o.reach, 'offline', o.status, 'offline', null, null, false)
        ::rollcall_internal.face_change
      from old_rows o where o.reach <> 'offline' order by o.user_id, o.face), v_settings);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_deleted_record is 'Trigger function: records deleted faces.';

create trigger record_after_insert after insert on rollcall.user_presence
  referencing new table as new_rows for each statement execute function rollcall_internal.on_faces_inserted_record();
create trigger record_after_update after update on rollcall.user_presence
  referencing old table as old_rows new table as new_rows for each statement
  execute function rollcall_internal.on_faces_updated_record();
create trigger record_after_delete after delete on rollcall.user_presence
  referencing old table as old_rows for each statement execute function rollcall_internal.on_faces_deleted_record();

-- Who is online already has a session from now on, and nobody keeps an open one.
-- Definer: writes sessions of all users; fires for whoever may change the setting.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_sessions_switched() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  if new.presence_sessions then
    insert into rollcall.presence_sessions (user_id, face, started_at)
      select p.user_id, p.face, pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp())
      from rollcall.user_presence p where p.reach <> 'offline'
      on conflict (user_id, face) where ended_at is null do nothing;
  else
    update rollcall.presence_sessions s
      set ended_at = greatest(s.started_at, pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp()))
      where s.ended_at is null;
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_sessions_switched is 'Trigger function: begins or ends the recording.';

create trigger switch_sessions after update of presence_sessions on rollcall.event_settings
  for each row when (old.presence_sessions is distinct from new.presence_sessions)
  execute function rollcall_internal.on_sessions_switched();

-- schemas/30_typing.sql ----------------------------------------------------------------------------------------------

-- Typing: who is notified, and how it expires. A start and a stop are notified; a refresh only when two seconds have
-- passed since the last notification.

-- Participants of a conversation see each other type, except users that are blocked, invisible, hidden from everyone,
-- or that switched typing off.
-- In rollcall_internal, where a policy may call it and API roles may not: called by name, it would answer for somebody
-- who is not typing, and so reveal who is invisible or has blocked the caller.
-- Definer: see my_visible_users.
create function rollcall_internal.can_see_typing(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return (
    select case
      when v_me = p_subject then true
      when exists (select from rollcall_internal.blocks_between(v_me, p_subject)) then false
      when exists (select from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = v_me)
        then true
      else not exists (select from rollcall.presence_choices c where c.user_id = p_subject and c.chosen = 'invisible')
        and not exists (select from rollcall.presence_settings s
          where s.user_id = p_subject and (s.visibility = 'nobody' or not s.show_typing))
      end
  );
end
$$;
comment on function rollcall_internal.can_see_typing is
  'Whether the caller may see a user type in a conversation that both take part in.';
grant execute on function rollcall_internal.can_see_typing to authenticated, service_role;

-- API roles may say that they type, not for how long.
-- Definer: reads the type of conversation IDs; writes only the new row.
create function rollcall_internal.limit_typing_times() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.conversation_id := rollcall.conversation_key(new.conversation_id);
  if new.id_is_number is null then
    new.id_is_number := (select k from rollcall_internal.conversation_id_kind() k) = 'bigint';
  end if;
  new.updated_at := least(new.updated_at, clock_timestamp());
  new.expires_at := least(new.expires_at, clock_timestamp() + interval '5 seconds');
  return new;
end
$$;
comment on function rollcall_internal.limit_typing_times is
  'Trigger function: normalizes conversation_id, limits updated_at to now and expires_at to five seconds from now.';

-- Typing that starts counts against a quota; a refresh by `insert … on conflict` starts nothing. An update that
-- extends the typing by less than half a second is left out (typing ends with a delete), and updated_at is kept for two
-- seconds: so a flood of updates writes a row twice a second, and notifies every two seconds.
-- Definer: counts typing that policies may hide; see consume_quota.
create function rollcall_internal.limit_typing_writes() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    if auth.uid() is not null and not exists (
      select from rollcall.typing_indicators t
      where t.conversation_id = new.conversation_id and t.user_id = new.user_id)
    then
      perform rollcall_internal.consume_quota('typing_starts');
    end if;
    return new;
  end if;
  if new.expires_at < old.expires_at + interval '500 milliseconds' then
    return null;
  end if;
  if new.updated_at < old.updated_at + interval '2 seconds' then
    new.updated_at := old.updated_at;
  end if;
  return new;
end
$$;
comment on function rollcall_internal.limit_typing_writes is
  'Trigger function: counts typing that a user starts, and leaves out updates that are too frequent.';

-- The format of notify_ids with one pair per line, at most 6,000 bytes and one pair each: IDs have up to 255 characters
-- and no control characters.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_typing(p_pairs text[]) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
  v_nonce text;
  v_masked text[];
begin
  for v_part in
    select array_agg(m.pair order by m.number) as pairs
    from (
      select n.pair, n.number, (sum(octet_length(n.pair) + 1) over (order by n.number) / 6000)::bigint as part
      from unnest(p_pairs) with ordinality as n (pair, number)
    ) m
    group by m.part
    order by m.part
  loop
    v_nonce := rollcall_internal.notification_nonce();
    v_masked := rollcall_internal.mask_ids(v_nonce, array(
      select right(n.pair, 36)::uuid from unnest(v_part.pairs) with ordinality as n (pair, number) order by n.number));
    perform rollcall_internal.notify('rollcall_typing', (
      select rollcall_internal.notification_time() || '|'
        || string_agg(left(n.pair, -36) || v_masked[n.number], e'\n' order by n.number)
      from unnest(v_part.pairs) with ordinality as n (pair, number)), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_typing is 'Sends `conversation:user` pairs as notifications.';

-- Definer: see notify_typing.
create function rollcall_internal.on_typing_started() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify_typing(array(select n.conversation_id || ':' || n.user_id from new_rows n));
  return null;
end
$$;
comment on function rollcall_internal.on_typing_started is 'Trigger function: notifies nodes of typing that started.';

-- updated_at is the time of the last notification; an update that keeps it is a refresh without notification.
-- Definer: see notify_typing.
create function rollcall_internal.on_typing_refreshed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify_typing(array(
    select n.conversation_id || ':' || n.user_id
    from new_rows n
    where not exists (
      select from old_rows o
      where o.conversation_id = n.conversation_id and o.user_id = n.user_id and o.updated_at = n.updated_at
    )
  ));
  return null;
end
$$;
comment on function rollcall_internal.on_typing_refreshed is
  'Trigger function: notifies nodes of typing that continues.';

-- Definer: see notify_typing.
create function rollcall_internal.on_typing_stopped() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify_typing(array(select o.conversation_id || ':' || o.user_id from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_typing_stopped is 'Trigger function: notifies nodes of typing that stopped.';

-- Unlogged: after a crash nobody is typing.
create unlogged table rollcall.typing_indicators (
  conversation_id text not null
    constraint typing_indicators_conversation_id_is_plain
      check (char_length(conversation_id) between 1 and 255 and conversation_id !~ '[[:cntrl:]]'),
  user_id uuid not null,
  updated_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '5 seconds',
  id_is_number boolean,
  constraint typing_indicators_pkey primary key (conversation_id, user_id)
) with (fillfactor = 50);
comment on table rollcall.typing_indicators is
  'Users that are typing. A row expires after five seconds unless it is refreshed. Unlogged.';
comment on column rollcall.typing_indicators.conversation_id is
  'The ID as text, whatever its type in the table of participants.';
comment on column rollcall.typing_indicators.id_is_number is
  'Whether the typing user gave the ID as a JSON number; sockets receive it the same way. Default: integer IDs are.';
create index typing_indicators_user_id on rollcall.typing_indicators (user_id);
alter table rollcall.typing_indicators enable row level security;
create policy "participants read who is typing" on rollcall.typing_indicators
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversation_ids()) and rollcall_internal.can_see_typing(user_id));
create policy "participants start typing" on rollcall.typing_indicators
  for insert to authenticated
  with check (user_id = (select auth.uid()) and conversation_id in (select rollcall.my_conversation_ids()));
create policy "users refresh their typing" on rollcall.typing_indicators
  for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and conversation_id in (select rollcall.my_conversation_ids()));
create policy "users stop typing" on rollcall.typing_indicators
  for delete to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.typing_indicators
  for all to service_role using (true) with check (true);
revoke all on rollcall.typing_indicators from anon, authenticated, service_role;
grant select, delete, insert (conversation_id, user_id, expires_at, id_is_number),
  update (updated_at, expires_at, id_is_number)
  on rollcall.typing_indicators to authenticated;
grant all on rollcall.typing_indicators to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.typing_indicators', 'user_id', true, 50, null);

create trigger limit_typing_times before insert or update on rollcall.typing_indicators
  for each row execute function rollcall_internal.limit_typing_times();
-- After limit_typing_times, in the order of names.
create trigger refuse_frequent_writes before insert or update on rollcall.typing_indicators
  for each row when (current_user = 'authenticated')
  execute function rollcall_internal.limit_typing_writes();
create trigger notify_after_insert after insert on rollcall.typing_indicators
  referencing new table as new_rows for each statement execute function rollcall_internal.on_typing_started();
create trigger notify_after_update after update on rollcall.typing_indicators
  referencing old table as old_rows new table as new_rows for each statement
    execute function rollcall_internal.on_typing_refreshed();
create trigger notify_after_delete after delete on rollcall.typing_indicators
  referencing old table as old_rows for each statement execute function rollcall_internal.on_typing_stopped();
create trigger invalidate_after_truncate after truncate on rollcall.typing_indicators
  for each statement execute function rollcall_internal.on_truncated();

-- Concurrent nodes skip each other's rows.
-- Definer: acts on rows of all users; service_role only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.expire_typing() returns timestamptz
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  delete from rollcall.typing_indicators t
  using (
    select e.conversation_id, e.user_id from rollcall.typing_indicators e
    -- A row lives five seconds. After the clock went back, older ones would expire later.
    where e.expires_at <= clock_timestamp() or e.expires_at > clock_timestamp() + interval '6 seconds'
    for update skip locked
  ) expired
  where t.conversation_id = expired.conversation_id and t.user_id = expired.user_id;
  return (select min(t.expires_at) from rollcall.typing_indicators t);
end
$$;
comment on function rollcall.expire_typing is
  'Deletes expired typing rows; returns when the next one expires, null when there is none.';
grant execute on function rollcall.expire_typing to service_role;

-- schemas/35_presence_management.sql ---------------------------------------------------------------------------------

-- Messages to sockets, limits, the registry of personal data in use, and retention.

-- Messages to sockets -------------------------------------------------------------------------------------------------

-- NOTIFY carries the id, the content stays here for two minutes. Unlogged: after a crash there are no sockets.
create unlogged table rollcall_internal.outbox (
  id bigint generated always as identity primary key,
  kind text not null constraint outbox_kind_is_known check (kind in ('message', 'sign_off', 'disconnect')),
  recipients uuid[] not null,
  body json not null,
  posted_at timestamptz not null default now()
);
comment on table rollcall_internal.outbox is
  'Messages for sockets, sign-offs and disconnects. Each node reads them once; kept for two minutes. Unlogged.';
-- No policies: only the server reads it.
alter table rollcall_internal.outbox enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.outbox', 'recipients', false, null, 'deleted after two minutes');

-- Definer: appends to a table that no API role may write.
create function rollcall_internal.post_to_outbox(p_kind text, p_recipients uuid[], p_body json) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  insert into rollcall_internal.outbox (kind, recipients, body) values (p_kind, p_recipients,
    p_body) returning id into v_id;
  if p_kind = 'message' then
    perform rollcall_internal.notify('rollcall_broadcast', v_id::text);
  else
    -- Nothing repeats a sign-off or a disconnect that was missed.
    perform rollcall_internal.notify_directly('rollcall_broadcast', v_id::text);
  end if;
end
$$;
comment on function rollcall_internal.post_to_outbox is 'Queues a message for the sockets of some users.';

-- Users without a socket miss it.
-- Definer: reads devices and nodes of any user; service_role only.
create function rollcall.broadcast(p_category text, p_event text, p_recipients uuid[], p_payload json)
  returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_connected bigint;
begin
  perform rollcall_internal.post_to_outbox('message', array(select distinct r from unnest(p_recipients) r),
    json_build_object('category', p_category, 'event', p_event, 'payload', p_payload));
  select count(distinct d.user_id) into v_connected
  from rollcall.presence_devices d
  where d.user_id = any (p_recipients) and rollcall.any_node_lives(d.nodes);
  return v_connected;
end
$$;
comment on function rollcall.broadcast is
  'Sends an event to every open socket of some users, at most once; returns how many users are connected.';
grant execute on function rollcall.broadcast to service_role;

-- Sockets close with code 4403 and this reason. Clients may reconnect with a valid token. The devices go offline as
-- after any closed socket. A device is named by sockets of presence only, so channel sockets stay open with one.
-- Definer: reads devices and nodes of any user; service_role only.
create function rollcall.disconnect(p_user uuid, p_reason text default 'disconnected by an administrator',
  p_device text default null) returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.check_close_reason(p_reason);
  perform rollcall_internal.record_action(
    case when p_device is null then 'disconnect_user' else 'disconnect_device' end, p_user,
    jsonb_strip_nulls(jsonb_build_object('user_id', p_user, 'device_id', p_device)), p_reason);
  perform rollcall_internal.post_to_outbox('disconnect', array[p_user],
    json_build_object('reason', p_reason, 'device_id', p_device));
  return (select count(*) from rollcall.presence_devices d where d.user_id = p_user
    and (p_device is null or d.device_id = p_device) and rollcall.any_node_lives(d.nodes));
end
$$;
comment on function rollcall.disconnect is
  'Closes every socket of a user, or of one of the devices, on every node; returns how many devices were connected.';
grant execute on function rollcall.disconnect to service_role;

insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.operator_audit', 'user_id', false, null,
    'the audit log of operators, deleted after its retention');

-- Retention -----------------------------------------------------------------------------------------------------------

create table rollcall.retention (
  key text primary key constraint retention_key_is_known
    check (key in ('offline_devices', 'last_seen', 'presence_sessions', 'operator_audit')),
  keep interval constraint retention_keep_is_positive check (keep > interval '0'),
  applied_at timestamptz
);
comment on table rollcall.retention is
  'How long data is kept: devices that stay offline, last_seen, sessions after their end, and the audit log of '
  'operators. Null keeps forever. '
  'rollcall.sweep() applies it once an hour.';
-- No policies for users: for operators.
alter table rollcall.retention enable row level security;
create policy "service_role reads" on rollcall.retention for select to service_role using (true);
create policy "service_role updates" on rollcall.retention for update to service_role using (true) with check (true);
revoke all on rollcall.retention from anon, authenticated, service_role;
grant select, update (keep) on rollcall.retention to service_role;

insert into rollcall.retention (key, keep)
  values ('offline_devices', interval '90 days'), ('last_seen', interval '1 year'),
    ('presence_sessions', interval '90 days'), ('operator_audit', interval '2 years');

-- Limits of writes without the server ---------------------------------------------------------------------------------

-- How often users may write by function or on the tables. Refused writes and repeats change nothing and do not count.

create table rollcall.limits (
  key text primary key
    constraint limits_key_is_known check (key in ('status_updates', 'presence_writes', 'typing_starts')),
  per_minute int not null constraint limits_per_minute_is_not_negative check (per_minute >= 0)
);
comment on table rollcall.limits is
  'How often per minute, and at once, each user may write without the server; 0 for no limit. status_updates: calls of '
  'set_my_status. presence_writes: statements on presence_devices and presence_choices that others may notice. '
  'typing_starts: typing that starts, also through the server. The server counts REST and sockets with limits of its '
  'own.';
-- No policies for users: for operators.
alter table rollcall.limits enable row level security;
create policy "service_role reads" on rollcall.limits for select to service_role using (true);
create policy "service_role updates" on rollcall.limits for update to service_role using (true) with check (true);
revoke all on rollcall.limits from anon, authenticated, service_role;
grant select, update (per_minute) on rollcall.limits to service_role;

insert into rollcall.limits (key, per_minute)
  values ('status_updates', 10), ('presence_writes', 120), ('typing_starts', 300);

create unlogged table rollcall_internal.rate_limits (
  user_id uuid,
  key text,
  full_at timestamptz not null,
  constraint rate_limits_pkey primary key (user_id, key)
) with (fillfactor = 50);
comment on table rollcall_internal.rate_limits is
  'When a quota of a user is full again. Expired rows are deleted. Unlogged.';
-- No policies: only the server uses it.
alter table rollcall_internal.rate_limits enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.rate_limits', 'user_id', false, null,
    'a time, deleted within minutes; erasing it would reset the limit');

-- PostgREST answers PT429 with status 429. The detail is JSON: the limit, and the milliseconds until one more write is
-- allowed and until the quota is full again.
-- Definer: users must not reset their own count; acts for auth.uid() only.
create function rollcall_internal.consume_quota(p_key text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me constant uuid := auth.uid();
  v_limit constant int := (select nullif(l.per_minute, 0) from rollcall.limits l where l.key = p_key);
  v_step constant interval := interval '1 minute' / v_limit;
  v_full timestamptz;
  v_wait bigint;
begin
  if v_limit is null then
    return;
  end if;
  insert into rollcall_internal.rate_limits as a (user_id, key, full_at)
    values (v_me, p_key, clock_timestamp() + v_step)
    on conflict (user_id, key) do update set full_at = greatest(a.full_at, clock_timestamp()) + v_step
      where greatest(a.full_at, clock_timestamp()) + v_step <= clock_timestamp() + interval '1 minute';
  if found then
    return;
  end if;
  select a.full_at into v_full from rollcall_internal.rate_limits a where a.user_id = v_me and a.key = p_key;
  v_wait := greatest(1, ceil(extract(epoch from v_full + v_step - clock_timestamp() - interval '1 minute') * 1000));
  raise exception 'too many %, try again in % s', replace(p_key, '_', ' '), ceil(v_wait / 1000.0)
    using errcode = 'PT429', detail = json_build_object('limit', v_limit, 'retry_after_ms', v_wait,
      'reset_ms', ceil(extract(epoch from v_full - clock_timestamp()) * 1000))::text;
end
$$;
comment on function rollcall_internal.consume_quota is
  'Counts a write of the caller, or refuses it with SQLSTATE PT429.';

-- Definer: see consume_quota.
create function rollcall.consume_status_quota() returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if auth.uid() is null then
    raise exception 'the claims have no user: sub is required' using errcode = 'insufficient_privilege';
  end if;
  perform rollcall_internal.consume_quota('status_updates');
end
$$;
comment on function rollcall.consume_status_quota is
  'Counts a status update of the caller, or refuses it with SQLSTATE PT429.';
grant execute on function rollcall.consume_status_quota to authenticated;

-- Before the statement, so that a refused one writes no row.
-- Definer: see consume_quota.
create function rollcall_internal.limit_presence_writes() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if auth.uid() is not null then
    perform rollcall_internal.consume_quota('presence_writes');
  end if;
  return null;
end
$$;
comment on function rollcall_internal.limit_presence_writes is
  'Trigger function: counts a statement of a user against the quota of writes.';

create trigger limit_writes before insert or delete or update of status, activity, current_page
  on rollcall.presence_devices
  for each statement when (current_user = 'authenticated')
  execute function rollcall_internal.limit_presence_writes();
create trigger limit_writes before insert or update or delete on rollcall.presence_choices
  for each statement when (current_user = 'authenticated')
  execute function rollcall_internal.limit_presence_writes();

-- Quotas of rows ------------------------------------------------------------------------------------------------------

create table rollcall.quotas (
  key text primary key constraint quotas_key_is_known check (key = 'devices'),
  maximum int not null constraint quotas_maximum_is_not_negative check (maximum >= 0)
);
comment on table rollcall.quotas is
  'How many rows each user may have, whoever writes them; 0 for no limit. Lowering it deletes nothing.';
-- No policies for users: for operators.
alter table rollcall.quotas enable row level security;
create policy "service_role reads" on rollcall.quotas for select to service_role using (true);
create policy "service_role updates" on rollcall.quotas for update to service_role using (true) with check (true);
revoke all on rollcall.quotas from anon, authenticated, service_role;
grant select, update (maximum) on rollcall.quotas to service_role;

insert into rollcall.quotas (key, maximum) values ('devices', 100);

-- PostgREST answers PT409 with status 409. The server recognizes the error by the name of the constraint.
-- Invoker: only raises.
create function rollcall_internal.raise_too_many_devices() returns void
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'too many devices: every device of the user is online' using errcode = 'PT409',
    constraint = 'presence_devices_per_user',
    detail = 'A new device replaces the one that has been offline for the longest time.',
    hint = 'Sign a device off, or use the ID of an existing one.';
end
$$;
comment on function rollcall_internal.raise_too_many_devices is
  'Raises SQLSTATE PT409: a user has as many devices as allowed, all of them online.';

-- Before anything is written, so that the write of a refused device changes nothing.
-- Invoker: for write_presence, which reads devices of any user. Reads only what the server may read.
create function rollcall_internal.users_without_room(p_users uuid[], p_devices text[]) returns uuid[]
  language plpgsql stable security invoker
as $$
declare
  v_maximum constant int := (select nullif(q.maximum, 0) from rollcall.quotas q where q.key = 'devices');
begin
  return array(
    select staying.user_id
    from (
      select d.user_id from rollcall.presence_devices d where d.user_id = any (p_users) and d.live
      union all
      select n.user_id from unnest(p_users, p_devices) as n (user_id, device_id)
    ) staying
    where v_maximum is not null
    group by staying.user_id
    having count(*) > v_maximum
  );
end
$$;
comment on function rollcall_internal.users_without_room is
  'Users for whom these new devices exceed the quota even if every offline device is deleted.';

-- The caller has locked the row in user_last_seen of each user, so that concurrent inserts are counted one after the
-- other. Skips locked devices: locks on devices come before that lock.
-- Definer: counts and deletes devices whatever the policies of the caller show. For the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.replace_offline_devices(p_users uuid[], p_devices text[]) returns uuid[]
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_maximum constant int := (select nullif(q.maximum, 0) from rollcall.quotas q where q.key = 'devices');
  v_users pg_catalog.uuid[];
  v_excess bigint[];
  v_full pg_catalog.uuid[];
begin
  select pg_catalog.array_agg(many.user_id), pg_catalog.array_agg(many.count - v_maximum) into v_users, v_excess
  from (
    select d.user_id, count(*) as count from rollcall.presence_devices d
    where d.user_id = any (p_users)
    group by d.user_id
    having count(*) > v_maximum
  ) many;
  if v_users is null then
    return '{}';
  end if;
  with replaced as materialized (
    select o.user_id, o.device_id
    from unnest(v_users, v_excess) as f (user_id, excess)
    cross join lateral (
      select d.user_id, d.device_id from rollcall.presence_devices d
      where d.user_id = f.user_id and not d.live
        and (d.user_id, d.device_id) not in (
          select n.user_id, n.device_id from unnest(p_users, p_devices) as n (user_id, device_id))
      order by d.nodes <> '{}', d.last_heartbeat_at, d.device_id
      limit f.excess
      for update skip locked
    ) o
  ),
  deleted as (
    delete from rollcall.presence_devices d using replaced o
      where d.user_id = o.user_id and d.device_id = o.device_id
      returning d.user_id
  )
  select pg_catalog.array_agg(f.user_id) into v_full
  from unnest(v_users, v_excess) as f (user_id, excess)
  where f.excess > (select count(*) from deleted d where d.user_id = f.user_id);
  return coalesce(v_full, '{}');
end
$$;
comment on function rollcall_internal.replace_offline_devices is
  'Where these new devices exceed the quota, deletes the devices that have been offline for the longest time; returns '
  'users that still have too many.';

-- The lock is that of refresh_faces, which has it already unless the session set rollcall.batch.
-- Definer: see replace_offline_devices.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_devices_added() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_batch constant pg_catalog.text := coalesce(current_setting('rollcall.batch', true), '');
begin
  perform set_config('rollcall.batch', 'on', true);
  insert into rollcall.user_last_seen as l (user_id) select distinct n.user_id from new_rows n order by n.user_id
    on conflict (user_id) do update set last_seen = l.last_seen where false;
  perform set_config('rollcall.batch', v_batch, true);
  if rollcall_internal.replace_offline_devices(
    array(select n.user_id from new_rows n order by n.user_id, n.device_id),
    array(select n.device_id from new_rows n order by n.user_id, n.device_id)) <> '{}'
  then
    perform rollcall_internal.raise_too_many_devices();
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_devices_added is 'Trigger function: keeps the quota of devices of a user.';

-- After refresh_after_insert, in the order of names. Batches keep the quota themselves; but any session can make their
-- setting.
create trigger replace_after_insert after insert on rollcall.presence_devices
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on' or current_user = 'authenticated')
  execute function rollcall_internal.on_devices_added();

-- Called by rollcall.sweep under its lock.
-- Over 60 lines: one rule after the other.
-- Definer: acts on rows of all users; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.purge_expired(p_limit int default 10000) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_rule record;
  v_users pg_catalog.uuid[];
  v_count bigint;
  v_all bigint := 0;
begin
  delete from rollcall_internal.outbox o where o.posted_at < now() - interval '2 minutes';
  delete from rollcall_internal.rate_limits a where a.full_at < now();
  -- For databases without a server.
  perform rollcall_internal.publish_events();
  -- A publication that was created again gets its table back.
  perform rollcall_internal.publish_presence();

  for v_rule in
    select r.key, clock_timestamp() - r.keep as before from rollcall.retention r
    where r.keep is not null and (r.applied_at is null or r.applied_at < now() - interval '1 hour')
    -- Devices before last_seen, which selects users without any.
    order by r.key desc
  loop
    if v_rule.key = 'offline_devices' then
      with old as (
        select d.user_id, d.device_id from rollcall.presence_devices d
        where d.status = 'offline' and d.last_heartbeat_at < v_rule.before
        order by d.user_id, d.device_id
        limit p_limit for update skip locked
      )
      delete from rollcall.presence_devices d using old o where d.user_id = o.user_id and d.device_id = o.device_id;
      get diagnostics v_count = row_count;
    elsif v_rule.key = 'operator_audit' then
      v_count := rollcall_internal.purge_operator_audit(v_rule.before, p_limit);
    elsif v_rule.key = 'presence_sessions' then
      delete from rollcall.presence_sessions s where s.id in (
        select o.id from rollcall.presence_sessions o where o.ended_at < v_rule.before
        order by o.ended_at limit p_limit for update skip locked);
      get diagnostics v_count = row_count;
    else
      select array(
        select l.user_id from rollcall.user_last_seen l
        where l.last_seen < v_rule.before
          and not exists (select from rollcall.presence_devices d where d.user_id = l.user_id and d.status <> 'offline')
        limit p_limit
      ) into v_users;
      v_count := pg_catalog.cardinality(v_users);
      if v_count > 0 then
        perform set_config('rollcall.batch', 'on', true);
        -- Devices also store when they were last live.
        delete from rollcall.presence_devices d where d.user_id = any (v_users) and d.status = 'offline';
        update rollcall.presence_choices c set last_seen_when_hidden = null where c.user_id = any (v_users);
        update rollcall.user_last_seen l set last_seen = null where l.user_id = any (v_users);
        perform set_config('rollcall.batch', 'off', true);
        perform rollcall_internal.refresh_faces(v_users);
      end if;
    end if;
    v_all := v_all + v_count;
    -- The next sweep deletes the rest.
    if v_count < p_limit then
      update rollcall.retention r set applied_at = now() where r.key = v_rule.key;
    end if;
  end loop;
  return v_all;
end
$$;
comment on function rollcall_internal.purge_expired is
  'Deletes data past its retention and delivered messages, at most p_limit of each; returns how many rows.';

-- schemas/40_presence_writes.sql -------------------------------------------------------------------------------------

-- Writing presence in batches, leases of nodes, and the sweep. Every writer updates the faces in the same transaction.

-- At most one write per user. An activity or page that is null stays; an empty one is cleared. Kinds:
--   status      sets the status of a device; without a device id, of all live devices, or of `default`. With
--               p_background the device goes to the background: it is away, and the choice of the user stays
--   connect     a socket opened on p_node; brings an offline device back. A repeat changes nothing; with p_active the
--               socket
--               opened just now, which also brings back a device that had signed off
--   disconnect  the last socket on p_node closed p_age seconds ago; offline unless another node holds one or the device
--               is in the background
--   silent      the socket on p_node does not respond: offline unless another node holds one, but still connected
--   heartbeat   alive; with p_active also in use. Brings back a device that timed out, not one that signed off
-- A socket that opened just now and a heartbeat with p_active end the background.
-- The write of a new device is left out, and the user from the result, if the quota of devices is reached and every
-- device is online.
-- Locks as refresh_faces does. A lock that is not granted within the callers lock_timeout fails the batch; the server
-- then writes the locked users apart. Its plans are fixed for the reasons that refresh_faces gives.
-- Definer: the server writes for many users in one statement, and has checked that each writes for itself.
-- Over 60 lines: the choice, new devices and the one update of devices share the locks and the order of the batch.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.write_presence(
  p_kind text[], p_user uuid[], p_device text[], p_node uuid[], p_age double precision[], p_active boolean[],
  p_status rollcall.presence_status[], p_set_custom boolean[], p_custom text[], p_custom_expires timestamptz[],
  p_activity text[], p_page text[], p_background int[] default null
) returns setof rollcall.user_presence
  language plpgsql volatile security definer
  set plan_cache_mode = force_generic_plan set jit = off
  set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_now constant pg_catalog.timestamptz := clock_timestamp();
  v_users pg_catalog.uuid[] := p_user;
  v_batch constant pg_catalog.text := coalesce(current_setting('rollcall.batch', true), '');
  v_new_users pg_catalog.uuid[];
  v_new_devices pg_catalog.text[];
  v_choices bigint;
  v_refused pg_catalog.uuid[];
  v_unnamed constant boolean := pg_catalog.array_position(p_device, null) is not null;
  v_void pg_catalog.text;
begin
  v_void := set_config('rollcall.batch', 'on', true);

  -- Most devices and choices exist.
  select pg_catalog.array_agg(o.user_id), pg_catalog.array_agg(o.device_id),
    (select count(*) from rollcall.presence_choices c where c.user_id = any (v_users))
  into v_new_users, v_new_devices, v_choices
  from unnest(p_kind, p_user, p_device) as o (kind, user_id, device_id)
  where o.kind in ('status', 'connect', 'heartbeat') and o.device_id is not null
    and (o.user_id, o.device_id) not in (
      select d.user_id, d.device_id from rollcall.presence_devices d where d.user_id = any (v_users));
  if v_new_users is not null then
    v_refused := rollcall_internal.users_without_room(v_new_users, v_new_devices);
    if v_refused <> '{}' then
      select
        pg_catalog.array_agg(o.kind), pg_catalog.array_agg(o.user_id), pg_catalog.array_agg(o.device_id),
          pg_catalog.array_agg(o.node), pg_catalog.array_agg(o.age),
        pg_catalog.array_agg(o.active), pg_catalog.array_agg(o.status), pg_catalog.array_agg(o.set_custom),
          pg_catalog.array_agg(o.custom),
        pg_catalog.array_agg(o.custom_expires), pg_catalog.array_agg(o.activity), pg_catalog.array_agg(o.page),
          pg_catalog.array_agg(o.background)
      into p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_set_custom, p_custom, p_custom_expires,
        p_activity, p_page, p_background
      from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_set_custom, p_custom,
          p_custom_expires, p_activity, p_page, p_background)
        as o (kind, user_id, device_id, node, age, active, status, set_custom, custom, custom_expires, activity, page,
          background)
      where o.user_id <> all (v_refused);
      v_users := p_user;
      if v_users is null then
        v_void := set_config('rollcall.batch', v_batch, true);
        return;
      end if;
    end if;
  end if;

  -- The choice comes first: going invisible stores the state of that moment. Only changed rows are written. Going
  -- offline and to the background keep the choice: busy holds until changed. Users without a choice get an empty one
  -- first, so that one statement locks all rows that others can see, in order, and two batches never deadlock.
  if 'status' = any (p_kind) then
    if v_choices < pg_catalog.cardinality(v_users)
      and (p_status && array['busy', 'dnd', 'invisible']::rollcall.presence_status[] or true = any (p_set_custom))
    then
      v_choices := pg_catalog.cardinality(v_users);
      insert into rollcall.presence_choices (user_id)
        select o.user_id
        from unnest(p_kind, p_user, p_status, p_set_custom, p_custom) as o (kind, user_id, status, set_custom, custom)
        where o.kind = 'status'
          and (o.status in ('busy', 'dnd', 'invisible') or o.set_custom and o.custom is not null)
          and o.user_id not in (select c.user_id from rollcall.presence_choices c where c.user_id = any (v_users))
        order by o.user_id
        on conflict (user_id) do nothing;
    end if;
    if v_choices > 0 then
      update rollcall.presence_choices c set
          chosen = case
            when o.status in ('busy', 'dnd', 'invisible') then o.status
            when o.keeps_choice then c.chosen end,
          custom_status = case when o.set_custom then o.custom else c.custom_status end,
          custom_status_expires_at = case when o.set_custom then o.custom_expires else c.custom_status_expires_at end
        from (
          select o.user_id, o.status, o.set_custom, o.custom, case when o.custom is not null then o.custom_expires end
            as custom_expires, o.status = 'offline' or o.status = 'away' and o.background is not null as keeps_choice
          from unnest(p_kind, p_user, p_status, p_set_custom, p_custom, p_custom_expires, p_background)
            as o (kind, user_id, status, set_custom, custom, custom_expires, background)
          where o.kind = 'status'
          order by o.user_id
        ) o
        where c.user_id = o.user_id and c.user_id = any (v_users)
          and (
            not o.keeps_choice and c.chosen is distinct from case when o.status in ('busy', 'dnd', 'invisible')
              then o.status end
            or o.set_custom and (c.custom_status, c.custom_status_expires_at) is distinct
              from (o.custom, o.custom_expires)
          );
    end if;
  end if;

  -- A write without a device id applies to all live devices, or to `default`, which then replaces another offline
  -- device if the quota is reached: from here on each row names its device.
  -- Neither a heartbeat nor a repeated `offline` brings back a device that signed off.
  if v_unnamed then
    select
      pg_catalog.array_agg(o.kind), pg_catalog.array_agg(o.user_id), pg_catalog.array_agg(coalesce(o.device_id,
        target.device_id)), pg_catalog.array_agg(o.node),
      pg_catalog.array_agg(o.age), pg_catalog.array_agg(o.active), pg_catalog.array_agg(o.status),
        pg_catalog.array_agg(o.activity), pg_catalog.array_agg(o.page),
      pg_catalog.array_agg(o.background)
    into p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page, p_background
    from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page, p_background)
      as o (kind, user_id, device_id, node, age, active, status, activity, page, background)
    left join lateral (
      select d.device_id from rollcall.presence_devices d
      where o.device_id is null and d.user_id = o.user_id and d.live
      union all
      select 'default'
      where o.device_id is null
        and not exists (select from rollcall.presence_devices d where d.user_id = o.user_id and d.live)
        and case o.kind
          when 'status' then o.status <> 'offline'
            or not exists (select from rollcall.presence_devices d where d.user_id = o.user_id)
          when 'heartbeat' then not coalesce((
            select d.signed_off_at is not null from rollcall.presence_devices d
            where d.user_id = o.user_id order by d.last_heartbeat_at desc limit 1), false)
          else true end
    ) target on true
    where coalesce(o.device_id, target.device_id) is not null;
  end if;

  -- New devices start as offline. A statement that inserts no row would still fire its triggers.
  if v_new_users is not null or v_unnamed then
    select pg_catalog.array_agg(o.user_id), pg_catalog.array_agg(o.device_id) into v_new_users, v_new_devices
    from unnest(p_kind, p_user, p_device) as o (kind, user_id, device_id)
    where o.kind in ('status', 'connect', 'heartbeat')
      and (o.user_id, o.device_id) not in (
        select d.user_id, d.device_id from rollcall.presence_devices d where d.user_id = any (v_users));
    if v_new_users is not null then
      insert into rollcall.presence_devices (user_id, device_id, status)
        select o.user_id, o.device_id, 'offline' from unnest(v_new_users, v_new_devices) as o (user_id, device_id)
        order by o.user_id, o.device_id
        on conflict (user_id, device_id) do nothing;
    end if;
  end if;

  update rollcall.presence_devices d set
      nodes = case o.kind
        when 'connect' then case when o.node = any (d.nodes) then d.nodes else d.nodes || o.node end
        when 'disconnect' then pg_catalog.array_remove(d.nodes, o.node)
        else d.nodes end,
      status = case o.kind
        when 'status' then o.reported
        when 'disconnect' then case when d.nodes = array[o.node] and d.background_seconds is null then 'offline'
          else d.status end
        when 'silent' then case
          when d.nodes = array[o.node] and coalesce(o.age >= d.background_seconds, true) then 'offline'
          else d.status end
        when 'connect' then case
          when o.active and d.background_seconds is not null then 'online'
          when d.live or d.signed_off_at is not null and o.node = any (d.nodes) and not o.active then d.status
          when d.background_seconds is not null then 'away' else 'online' end
        else case
          when o.active and d.background_seconds is not null then 'online'
          when d.live or d.signed_off_at is not null then d.status
          when d.background_seconds is not null then 'away' else 'online' end
        end,
      background_seconds = case
        when o.kind = 'status' then o.background
        when o.active and o.kind in ('connect', 'heartbeat') then null
        else d.background_seconds end,
      signed_off_at = case
        when o.kind = 'status' then case when o.reported = 'offline' then v_now end
        when o.kind = 'connect' and (o.active or not o.node = any (d.nodes)) then null
        else d.signed_off_at end,
      session_started_at = case
        when not d.live and (o.kind = 'status' and o.reported <> 'offline' or o.kind in ('connect', 'heartbeat')
          and (d.signed_off_at is null or o.kind = 'connect' and (o.active or not o.node = any (d.nodes))))
        then v_now else d.session_started_at end,
      -- The last moment at which it was live; a device that stays offline keeps it.
      last_heartbeat_at = case
        when o.kind in ('disconnect', 'silent') then
          case when d.live then greatest(d.last_heartbeat_at, v_now - o.age * interval '1 second')
            else d.last_heartbeat_at end
        when d.live or o.kind = 'status' and o.reported <> 'offline' or o.kind in ('connect', 'heartbeat')
          and (d.signed_off_at is null or o.kind = 'connect' and (o.active or not o.node = any (d.nodes)))
        then v_now else d.last_heartbeat_at end,
      last_active_at = case
        when o.kind = 'status' or o.kind = 'heartbeat' and o.active
          or o.kind = 'connect' and (o.active or not (d.live and o.node = any (d.nodes)))
        then v_now else d.last_active_at end,
      idle_since = case
        when o.kind = 'status' or o.kind = 'heartbeat' and o.active
          or o.kind = 'connect' and (o.active or not (d.live and o.node = any (d.nodes)))
        then null else d.idle_since end,
      activity = case when o.kind = 'status' and o.activity is not null then nullif(o.activity, '') else d.activity end,
      current_page = case when o.kind = 'status' and o.page is not null then nullif(o.page, '') else d.current_page end
    from (
      select o.*, (case when o.status in ('offline', 'away') then o.status when o.background is not null then 'away'
        else 'online' end)::rollcall.presence_status as reported
      from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page, p_background)
        as o (kind, user_id, device_id, node, age, active, status, activity, page, background)
      order by o.user_id, o.device_id
    ) o
    where d.user_id = o.user_id and d.device_id = o.device_id and d.user_id = any (v_users)
      -- The status of a socket that a sign-off closes does not bring the device back.
      and not (o.kind = 'status' and o.node is not null and d.signed_off_at is not null
        and not o.node = any (d.nodes));

  v_void := rollcall_internal.refresh_faces(v_users);
  if v_new_users is not null then
    v_refused := rollcall_internal.replace_offline_devices(v_new_users, v_new_devices);
    -- Another session added devices meanwhile.
    if v_refused <> '{}' then
      delete from rollcall.presence_devices d using unnest(v_new_users, v_new_devices) as o (user_id, device_id)
        where d.user_id = o.user_id and d.device_id = o.device_id and d.user_id = any (v_refused);
      v_void := rollcall_internal.refresh_faces(v_refused);
      v_users := array(select u from pg_catalog.unnest(v_users) u where u <> all (v_refused));
    end if;
  end if;
  v_void := set_config('rollcall.batch', v_batch, true);

  return query select * from rollcall.user_presence p where p.user_id = any (v_users) and p.face = 'trusted';
end
$$;
comment on function rollcall_internal.write_presence is
  'Applies a batch of presence writes; returns the trusted faces.';

-- Invoker: reads nothing.
create function rollcall.check_background(p_status rollcall.presence_status, p_background int) returns void
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if p_background is not null and p_status in ('online', 'offline') then
    raise exception 'p_background: only with status away, busy, dnd or invisible'
      using errcode = 'invalid_parameter_value';
  end if;
end
$$;
comment on function rollcall.check_background is
  'Raises an error if a device cannot be in the background with this status.';
grant execute on function rollcall.check_background to authenticated, service_role;

-- For DBAs and services.
-- Definer: writes devices and choices of any user; service_role only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.set_status(
  p_user uuid, p_status rollcall.presence_status, p_device text default null, p_background int default null
) returns setof rollcall.user_presence
  language plpgsql volatile security definer set lock_timeout = '2s'
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  perform rollcall.check_background(p_status, p_background);
  perform rollcall_internal.write_presence(
    array['status'], array[p_user], array[p_device], array[null::pg_catalog.uuid], array[0::double precision],
    array[true], array[p_status], array[false], array[null::pg_catalog.text], array[null::pg_catalog.timestamptz],
    array[null::pg_catalog.text], array[null::pg_catalog.text], array[p_background]);
  if not found then
    perform rollcall_internal.raise_too_many_devices();
  end if;
  -- From the table: a plan on a function's rows would not notice a new column.
  return query select p.* from rollcall.user_presence p where p.user_id = p_user and p.face = 'trusted';
end
$$;
comment on function rollcall.set_status is
  'Sets the status of a user, or of one device; returns the trusted face. With p_background the device stays away for '
  'that many seconds after its socket closed.';
grant execute on function rollcall.set_status to service_role;

-- Where other nodes live, the lease is shortened to the grace period: devices that reconnect elsewhere within it never
-- go offline, the others are swept. Otherwise the devices go offline at once, at most 20,000 in one call; the rest is
-- swept.
-- Definer: see renew_lease.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.release_lease(p_node uuid, p_grace interval default interval '0') returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_now constant pg_catalog.timestamptz := clock_timestamp();
  v_batch constant pg_catalog.text := coalesce(current_setting('rollcall.batch', true), '');
  v_users pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if exists (select from rollcall_internal.nodes n where n.id <> p_node and n.lease_expires_at > v_now) then
    update rollcall_internal.nodes set lease_expires_at = least(lease_expires_at, v_now + p_grace) where id = p_node;
    return;
  end if;
  v_void := set_config('rollcall.batch', 'on', true);
  with held as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    where d.nodes <> '{}' and p_node = any (d.nodes)
    order by d.user_id, d.device_id
    limit 20000
    for update
  ),
  dropped as (
    update rollcall.presence_devices d set
        nodes = pg_catalog.array_remove(d.nodes, p_node),
        status = case when d.nodes = array[p_node] and d.background_seconds is null then 'offline' else d.status end,
        last_heartbeat_at = case when d.live then v_now else d.last_heartbeat_at end
      from held h
      where d.user_id = h.user_id and d.device_id = h.device_id
      returning d.user_id
  )
  select pg_catalog.array_agg(d.user_id) into v_users from dropped d;
  -- The sweep treats the remaining devices as live until now.
  update rollcall_internal.nodes set renewed_at = v_now, lease_expires_at = v_now where id = p_node;
  if coalesce(pg_catalog.cardinality(v_users), 0) < 20000 then
    delete from rollcall_internal.nodes where id = p_node;
  end if;
  v_void := rollcall_internal.refresh_faces(v_users);
  v_void := set_config('rollcall.batch', v_batch, true);
end
$$;
comment on function rollcall_internal.release_lease is 'Releases the lease of a node that stops.';

-- Any node may run it, as may pg_cron or the Edge Function; concurrent calls return at once. It skips locked rows and
-- ends at most p_limit of each kind; the next call continues. Returns how many of each kind it ended.
-- Definer: acts on rows of all users; service_role only.
-- Over 60 lines: five kinds of expiry that lock in one order and refresh faces once.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.sweep(
  p_idle_after interval default interval '300 seconds',
  p_silent_after interval default interval '25 seconds',
  p_typing boolean default true,
  p_limit int default 10000
) returns table (nodes bigint, devices bigint, idle bigint, custom_statuses bigint, typing bigint)
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_now constant pg_catalog.timestamptz := clock_timestamp();
  v_batch constant pg_catalog.text := coalesce(current_setting('rollcall.batch', true), '');
  -- Commits of other sessions may be newer than v_now.
  v_clock_tolerance constant interval := '1 second';
  v_longest_typing constant interval := '6 seconds';
  v_living pg_catalog.uuid[];
  v_users pg_catalog.uuid[] := '{}';
  v_found pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  nodes := 0; devices := 0; idle := 0; custom_statuses := 0; typing := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall.sweep', 0)) then
    return next;
    return;
  end if;
  v_void := set_config('rollcall.batch', 'on', true);

  -- Each user's row in user_last_seen is locked too; otherwise the refresh below could wait for its holder.
  with expired as (
    select c.user_id from rollcall.presence_choices c
    join rollcall.user_last_seen l on l.user_id = c.user_id
    where c.custom_status_expires_at <= v_now
    order by c.user_id limit p_limit
    for update skip locked
  ),
  ended as (
    update rollcall.presence_choices c set custom_status = null, custom_status_expires_at = null
    from expired e where c.user_id = e.user_id
    returning c.user_id
  )
  select pg_catalog.array_agg(e.user_id), count(*) into v_found, custom_statuses from ended e;
  v_users := v_users || v_found;

  -- After the clock went back, times that were written before are in the future. They count from now: otherwise a node
  -- that is dead, or a device that is silent, would stay until the clock has reached them.
  update rollcall_internal.nodes n set
      lease_expires_at = v_now + (n.lease_expires_at - n.renewed_at), renewed_at = v_now
    where n.renewed_at > v_now + v_clock_tolerance;

  -- A node is dead when its lease has expired or does not exist. A node that recovers finds its lease expired and
  -- reports its sockets again.
  v_living := array(select n.id from rollcall_internal.nodes n where n.lease_expires_at >= v_now);
  with lost as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    join rollcall.user_last_seen l on l.user_id = d.user_id
    where d.nodes <> '{}' and not d.nodes <@ v_living
    order by d.user_id, d.device_id limit p_limit
    for update skip locked
  ),
  dropped as (
    update rollcall.presence_devices d set
        nodes = array(select held.node from pg_catalog.unnest(d.nodes) as held (node) where held.node = any (v_living)),
        status = case when d.nodes && v_living or d.background_seconds is not null then d.status else 'offline' end,
        last_heartbeat_at = case
          when d.live then greatest(d.last_heartbeat_at,
            (select max(n.renewed_at) from rollcall_internal.nodes n where n.id = any (d.nodes)
              and n.id <> all (v_living)))
          else d.last_heartbeat_at end
      from lost l
      where d.user_id = l.user_id and d.device_id = l.device_id
      returning d.user_id
  )
  select pg_catalog.array_agg(d.user_id), count(*) into v_found, devices from dropped d;
  v_users := v_users || v_found;
  -- A lease that expired just now has not been swept yet.
  if devices < p_limit then
    delete from rollcall_internal.nodes n where n.lease_expires_at < v_now and n.id <> all (v_living)
      and not exists (select from rollcall.presence_devices d where d.nodes <> '{}' and n.id = any (d.nodes));
    get diagnostics nodes = row_count;
  end if;

  with silent as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    join rollcall.user_last_seen l on l.user_id = d.user_id
    where d.live and d.nodes = '{}' and (d.last_heartbeat_at > v_now + v_clock_tolerance or d.last_heartbeat_at < v_now
      - case when d.background_seconds is null then p_silent_after else d.background_seconds * interval '1 second' end)
    order by d.user_id, d.device_id limit p_limit
    for update skip locked
  ),
  dropped as (
    update rollcall.presence_devices d set
        status = case when d.last_heartbeat_at > v_now then d.status else 'offline' end,
        last_heartbeat_at = least(d.last_heartbeat_at, v_now)
      from silent s where d.user_id = s.user_id and d.device_id = s.device_id
      returning d.user_id, d.live
  )
  select pg_catalog.array_agg(d.user_id), devices + count(*) filter (where not d.live) into v_found, devices
    from dropped d;
  v_users := v_users || v_found;

  with quiet as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    join rollcall.user_last_seen l on l.user_id = d.user_id
    where d.live and d.idle_since is null
      and (d.last_active_at < v_now - p_idle_after or d.last_active_at > v_now + v_clock_tolerance)
    order by d.user_id, d.device_id limit p_limit
    for update skip locked
  ),
  idled as (
    update rollcall.presence_devices d set
        idle_since = case when d.last_active_at <= v_now then date_trunc('milliseconds', d.last_active_at) end,
        last_active_at = least(d.last_active_at, v_now)
      from quiet q where d.user_id = q.user_id and d.device_id = q.device_id
      returning d.user_id, d.idle_since
  )
  select pg_catalog.array_agg(i.user_id), count(i.idle_since) into v_found, idle from idled i;
  v_users := v_users || v_found;

  v_void := rollcall_internal.refresh_faces(v_users);
  v_void := set_config('rollcall.batch', v_batch, true);

  if p_typing then
    with ended as (
      select t.conversation_id, t.user_id from rollcall.typing_indicators t
      where t.expires_at <= v_now or t.expires_at > v_now + v_longest_typing limit p_limit
      for update skip locked
    )
    delete from rollcall.typing_indicators t using ended e
      where t.conversation_id = e.conversation_id and t.user_id = e.user_id;
    get diagnostics typing = row_count;
  end if;

  delete from rollcall_internal.visibility_log l where l.noted_at < v_now - interval '2 minutes';
  -- Without an event trigger nothing else notices that a table was dropped.
  perform rollcall_internal.refresh_own_tables();
  perform rollcall_internal.purge_expired();
  return next;
end
$$;
comment on function rollcall.sweep is
  'Ends expired presence: devices of dead nodes or without heartbeats, idle devices, custom statuses, typing.';
grant execute on function rollcall.sweep to service_role;

-- The caller's own presence -------------------------------------------------------------------------------------------

-- Presence without the server: for PostgREST, Edge Functions and psql. Each function acts for auth.uid() only.

-- A write that the caller made under their own policies is the condition for what the definer functions below do. Its
-- row has the number of the running transaction or subtransaction, which the update of the other row tells.
-- Definer: locks a row that users may not write; called by definer functions that act for auth.uid().
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.require_written_device(p_user uuid, p_device text) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_batch constant pg_catalog.text := coalesce(current_setting('rollcall.batch', true), '');
  v_running pg_catalog.xid;
  v_void pg_catalog.text;
begin
  -- A transaction without a number has written nothing. Refusing it writes nothing either.
  if pg_current_xact_id_if_assigned() is not null then
    v_void := set_config('rollcall.batch', 'on', true);
    insert into rollcall.user_last_seen as l (user_id) values (p_user)
      on conflict (user_id) do update set last_seen = l.last_seen
      returning xmin into v_running;
    v_void := set_config('rollcall.batch', v_batch, true);
  end if;
  perform from rollcall.presence_devices d
    where d.user_id = p_user and d.device_id = p_device and d.xmin = v_running;
  if not found then
    raise exception 'the policies of rollcall.presence_devices do not let this user write the device'
      using errcode = 'insufficient_privilege';
  end if;
end
$$;
comment on function rollcall_internal.require_written_device is
  'Raises an error unless the running transaction has written this device.';

-- Changes nothing: row-level security, grants and triggers decide whether the caller may write the device. Names a
-- column that no trigger limits.
-- Invoker: that is its purpose.
create function rollcall.touch_device(p_device text, p_create boolean) returns boolean
  language plpgsql volatile security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
begin
  if v_me is null then
    raise exception 'the claims have no user: sub is required' using errcode = 'insufficient_privilege';
  end if;
  update rollcall.presence_devices d set device_name = d.device_name
    where d.user_id = v_me and d.device_id = p_device;
  if found then
    return true;
  end if;
  if p_create then
    -- A row that the policies hide is in conflict, and the caller has not written it.
    insert into rollcall.presence_devices (user_id, device_id, status) values (v_me, p_device, 'offline')
      on conflict (user_id, device_id) do nothing;
    return found;
  end if;
  if exists (select from rollcall.presence_devices d where d.user_id = v_me and d.device_id = p_device) then
    raise exception 'the policies of rollcall.presence_devices do not let this user write the device'
      using errcode = 'insufficient_privilege';
  end if;
  return false;
end
$$;
comment on function rollcall.touch_device is
  'Writes one of the callers devices without a change, and creates it if asked to; returns whether it was written.';
grant execute on function rollcall.touch_device to authenticated, service_role;

-- Definer: sets columns that only the server writes; acts for auth.uid() only, on a device that the caller has written.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.record_heartbeat(p_device text, p_active boolean) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_me constant pg_catalog.uuid := rollcall_internal.caller_id();
begin
  perform rollcall_internal.require_written_device(v_me, p_device);
  perform rollcall_internal.write_presence(
    array['heartbeat'], array[v_me], array[p_device], array[null::pg_catalog.uuid], array[0::double precision],
      array[p_active],
    array[null::rollcall.presence_status], array[false], array[null::pg_catalog.text],
      array[null::pg_catalog.timestamptz], array[null::pg_catalog.text],
    array[null::pg_catalog.text], array[null::int]);
  if not found then
    perform rollcall_internal.raise_too_many_devices();
  end if;
  return (select d.live from rollcall.presence_devices d where d.user_id = v_me and d.device_id = p_device);
end
$$;
comment on function rollcall.record_heartbeat is 'Second half of heartbeat_mine.';
grant execute on function rollcall.record_heartbeat to authenticated;

-- With p_active the device also counts as in use. A device that signed off stays off. Writes nothing within five
-- seconds of the last heartbeat, or for a device that stays off: honest clients send one every ten seconds.
-- Invoker: policies of presence_devices decide whether the caller may write the device.
create function rollcall.heartbeat_mine(p_device text default 'default', p_active boolean default false) returns boolean
  language plpgsql volatile security invoker set lock_timeout = '2s'
as $$
declare
  v_recent constant pg_catalog.timestamptz := clock_timestamp() - interval '5 seconds';
  v_device record;
begin
  select d.live, d.signed_off_at is not null as signed_off,
      d.last_heartbeat_at > v_recent and (not p_active or d.last_active_at > v_recent and d.idle_since is null)
        as repeated
    into v_device
    from rollcall.presence_devices d where d.user_id = auth.uid() and d.device_id = p_device;
  if v_device.live and v_device.repeated or not v_device.live and v_device.signed_off then
    return v_device.live;
  end if;
  perform rollcall.touch_device(p_device, true);
  return rollcall.record_heartbeat(p_device, p_active);
end
$$;
comment on function rollcall.heartbeat_mine is
  'Keeps one of the callers devices alive and creates it if needed; returns whether it is live.';
grant execute on function rollcall.heartbeat_mine to authenticated;

-- A custom status is set only with p_set_custom; an activity or page that is null stays, an empty one is cleared. A
-- repeat within five seconds changes nothing; every other call counts against the quotas of status updates and writes.
-- Invoker: writes the caller's rows under their policies and grants.
-- Over 60 lines: the check for a repeat compares every field that the writes below set.
create function rollcall.set_my_status(
  p_status rollcall.presence_status, p_device text default 'default', p_set_custom boolean default false,
  p_custom text default null, p_custom_expires timestamptz default null, p_activity text default null,
    p_page text default null, p_background int default null
) returns setof rollcall.user_presence
  language plpgsql volatile security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_choice constant rollcall.presence_status := case when p_status in ('busy', 'dnd', 'invisible') then p_status end;
  v_reported constant rollcall.presence_status := case
    when p_status in ('away', 'offline') then p_status when p_background is not null then 'away' else 'online' end;
  v_keeps_choice constant boolean := p_status = 'offline' or p_status = 'away' and p_background is not null;
begin
  perform rollcall.check_background(p_status, p_background);
  if v_me is null then
    raise exception 'the claims have no user: sub is required' using errcode = 'insufficient_privilege';
  end if;
  if exists (
    select from rollcall.presence_devices d
    left join rollcall.presence_choices c on c.user_id = d.user_id
    where d.user_id = v_me and d.device_id = p_device
      and d.status = v_reported and (p_status = 'offline' or d.background_seconds is not distinct from p_background)
      and case when p_status = 'offline' then d.signed_off_at
        else d.last_active_at end > clock_timestamp() - interval '5 seconds'
      and (p_status = 'offline' or d.live and d.idle_since is null and c.chosen is not distinct from v_choice)
      and (not p_set_custom or (c.custom_status, c.custom_status_expires_at)
        is not distinct from (p_custom, case when p_custom is not null then p_custom_expires end))
      and (p_activity is null or d.activity is not distinct from nullif(p_activity, ''))
      and (p_page is null or d.current_page is not distinct from nullif(p_page, ''))
  ) then
    return query select p.* from rollcall.user_presence p where p.user_id = v_me and p.face = 'trusted';
    return;
  end if;
  perform rollcall.consume_status_quota();
  -- The choice first, as in every writer; going offline keeps it.
  if v_choice is not null or p_set_custom or exists (select from rollcall.presence_choices c
    where c.user_id = v_me) then
    insert into rollcall.presence_choices as c (user_id, chosen, custom_status, custom_status_expires_at)
      values (v_me, v_choice, case when p_set_custom then p_custom end,
        case when p_set_custom and p_custom is not null then p_custom_expires end)
      on conflict (user_id) do update set
        chosen = case when v_keeps_choice then c.chosen else excluded.chosen end,
        custom_status = case when p_set_custom then excluded.custom_status else c.custom_status end,
        custom_status_expires_at = case when p_set_custom then excluded.custom_status_expires_at
          else c.custom_status_expires_at end;
  end if;
  if p_status = 'offline' then
    update rollcall.presence_devices d set status = 'offline' where d.user_id = v_me and d.device_id = p_device;
  else
    insert into rollcall.presence_devices as d (user_id, device_id, status, activity, current_page, background_seconds)
      values (v_me, p_device, v_reported, nullif(p_activity, ''), nullif(p_page, ''), p_background)
      on conflict (user_id, device_id) do update set
        status = excluded.status,
        background_seconds = excluded.background_seconds,
        activity = case when p_activity is null then d.activity else excluded.activity end,
        current_page = case when p_page is null then d.current_page else excluded.current_page end;
    perform rollcall.heartbeat_mine(p_device, p_background is null);
  end if;
  return query select p.* from rollcall.user_presence p where p.user_id = v_me and p.face = 'trusted';
end
$$;
comment on function rollcall.set_my_status is
  'Sets the callers status on a device; returns the callers trusted face. With p_background the device stays away for '
  'that many seconds after its socket closed.';
grant execute on function rollcall.set_my_status to authenticated;

-- Offline at once; only a new connection or status brings the device back, no late heartbeat.
-- Definer: sets columns that only the server writes; service_role only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.sign_off(p_user uuid, p_device text) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_now constant pg_catalog.timestamptz := clock_timestamp();
begin
  update rollcall.presence_devices d set
      -- A connected device was live until now; one on heartbeats until the last heartbeat.
      last_heartbeat_at = case when d.status <> 'offline' and d.nodes <> '{}' then v_now else d.last_heartbeat_at end,
      status = 'offline', nodes = '{}', signed_off_at = v_now, background_seconds = null
    where d.user_id = p_user and d.device_id = p_device;
  if not found then
    return false;
  end if;
  perform rollcall_internal.post_to_outbox('sign_off', array[p_user], pg_catalog.json_build_object('device_id',
    p_device));
  return true;
end
$$;
comment on function rollcall.sign_off is
  'Signs a device off and closes its sockets; false when there is no such device.';
grant execute on function rollcall.sign_off to service_role;

-- Definer: see sign_off; acts for auth.uid() only, on a device that the caller has written.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.record_sign_off(p_device text) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  perform rollcall_internal.require_written_device(rollcall_internal.caller_id(), p_device);
  return rollcall.sign_off(rollcall_internal.caller_id(), p_device);
end
$$;
comment on function rollcall.record_sign_off is 'Second half of sign_off_mine.';
grant execute on function rollcall.record_sign_off to authenticated, service_role;

-- Writes nothing if the device is signed off and has no socket.
-- Invoker: policies of presence_devices decide whether the caller may write the device.
create function rollcall.sign_off_mine(p_device text) returns boolean
  language plpgsql volatile security invoker
as $$
begin
  if exists (
    select from rollcall.presence_devices d where d.user_id = auth.uid() and d.device_id = p_device
      and not d.live and d.signed_off_at is not null and d.nodes = '{}')
  then
    return true;
  end if;
  return rollcall.touch_device(p_device, false) and rollcall.record_sign_off(p_device);
end
$$;
comment on function rollcall.sign_off_mine is 'Signs off one of the callers devices and closes its sockets.';
grant execute on function rollcall.sign_off_mine to authenticated, service_role;

-- Invoker: must not return what the caller may not see, such as lists of other users. Table names come from
-- personal_data, which only migrations write.
create function rollcall.export_mine() returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_table record;
  v_rows pg_catalog.jsonb;
  v_all pg_catalog.jsonb := '{}';
begin
  for v_table in
    select d.relation, c.relname as name, pg_catalog.string_agg(pg_catalog.format('t.%I = $1', d.column_name),
      ' or ') as mine,
      (
        select pg_catalog.string_agg(pg_catalog.format(
            ' || pg_catalog.jsonb_build_object(%1$L, rollcall.iso_time(t.%1$I))', a.attname), '')
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.atttypid = 'timestamptz'::pg_catalog.regtype and a.attnum > 0
          and not a.attisdropped
      ) as times
    from rollcall.personal_data d
    join pg_catalog.pg_class c on c.oid = d.relation
    where d.exported
    group by d.relation, c.relname, c.oid
    order by c.relname
  loop
    execute pg_catalog.format(
      'select coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t)%s), ''[]'') from %s t where %s', v_table.times,
        v_table.relation, v_table.mine)
      into v_rows using v_me;
    v_all := v_all || pg_catalog.jsonb_build_object(v_table.name, v_rows);
  end loop;
  return v_all;
end
$$;
comment on function rollcall.export_mine is
  'Returns all data kept about the caller, by table, as far as row-level security shows it.';
grant execute on function rollcall.export_mine to authenticated, service_role;

-- Afterwards the user reads as never seen. Deletes messages of models to the user too.
-- Definer: deletes rows that users may only read; service_role only. Table names come from personal_data.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.forget(p_user uuid) returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_column record;
  v_count bigint;
  v_lock_timeout constant pg_catalog.text := current_setting('lock_timeout');
  v_all pg_catalog.jsonb := '{}';
  v_void pg_catalog.text;
begin
  v_void := set_config('rollcall.batch', 'on', true);
  -- Other transactions lock these rows in another order. Giving way before PostgreSQL looks for a deadlock, which it
  -- does after a second, keeps them from failing. The last attempt waits.
  for v_attempt in 1 .. 20 loop
    begin
      if v_attempt < 20 then
        v_void := set_config('lock_timeout', '200ms', true);
      end if;
      v_all := '{}';
      for v_column in
        select d.relation, c.relname as name, d.column_name
        from rollcall.personal_data d
        join pg_catalog.pg_class c on c.oid = d.relation
        where d.erase_order is not null
        order by d.erase_order
      loop
        execute pg_catalog.format('delete from %s t where t.%I = $1', v_column.relation, v_column.column_name)
          using p_user;
        get diagnostics v_count = row_count;
        v_all := v_all || pg_catalog.jsonb_build_object(v_column.name, coalesce((v_all ->> v_column.name)::bigint,
          0) + v_count);
      end loop;
      v_void := set_config('lock_timeout', v_lock_timeout, true);
      exit;
    exception when lock_not_available or deadlock_detected then
      -- The attempt holds no row any more.
      if v_attempt = 20 then
        raise;
      end if;
      perform pg_catalog.pg_sleep(random() * 0.1);
    end;
  end loop;
  -- Other conversations belong to their other participants too.
  delete from rollcall.conversations c where c.created_by = p_user
    and not exists (
      select from rollcall.conversation_participants p where p.conversation_id = c.id and p.user_id <> p_user);
  get diagnostics v_count = row_count;
  v_all := v_all || pg_catalog.jsonb_build_object('conversations', v_count);
  v_void := set_config('rollcall.batch', 'off', true);
  -- A user that came back meanwhile gets a face again.
  v_void := rollcall_internal.refresh_faces(array[p_user]);
  perform rollcall_internal.post_to_outbox('sign_off', array[p_user], '{}');
  return v_all;
end
$$;
comment on function rollcall.forget is
  'Erases what is kept about a user and closes their sockets; returns how many rows were deleted, by table. Relations, '
  'memberships and shared conversations remain.';
grant execute on function rollcall.forget to service_role;

-- Definer: see forget; acts for auth.uid() only, after the caller has deleted what users may delete.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.record_forgetting() returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_me constant pg_catalog.uuid := rollcall_internal.caller_id();
begin
  if exists (select from rollcall.presence_devices d where d.user_id = v_me)
    or exists (select from rollcall.presence_choices c where c.user_id = v_me)
    or exists (select from rollcall.presence_settings s where s.user_id = v_me)
    or exists (select from rollcall.presence_visibility_list l where l.user_id = v_me)
  then
    raise exception 'policies do not let this user delete their presence'
      using errcode = 'insufficient_privilege',
        hint = 'An operator erases the data of a user with rollcall.forget().';
  end if;
  return rollcall.forget(v_me);
end
$$;
comment on function rollcall.record_forgetting is 'Second half of forget_me.';
grant execute on function rollcall.record_forgetting to authenticated, service_role;

-- Invoker: policies decide whether the caller may delete the rows that users write themselves.
create function rollcall.forget_me() returns jsonb
  language plpgsql volatile security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_table pg_catalog.text;
  v_count bigint;
  v_deleted pg_catalog.jsonb := '{}';
  v_all pg_catalog.jsonb;
  v_void pg_catalog.text;
begin
  v_void := set_config('rollcall.batch', 'on', true);
  foreach v_table in array array['presence_devices', 'presence_choices', 'presence_settings',
    'presence_visibility_list']
  loop
    execute pg_catalog.format('delete from rollcall.%I t where t.user_id = $1', v_table) using v_me;
    get diagnostics v_count = row_count;
    v_deleted := v_deleted || pg_catalog.jsonb_build_object(v_table, v_count);
  end loop;
  v_void := set_config('rollcall.batch', 'off', true);
  v_all := rollcall.record_forgetting();
  return v_all || (
    select pg_catalog.jsonb_object_agg(d.key, d.value::bigint + coalesce((v_all ->> d.key)::bigint, 0))
    from jsonb_each_text(v_deleted) d);
end
$$;
comment on function rollcall.forget_me is 'Erases what is kept about the caller; see forget.';
grant execute on function rollcall.forget_me to authenticated, service_role;

-- Deleted accounts ----------------------------------------------------------------------------------------------------

create table rollcall_internal.deleted_accounts (
  user_id uuid primary key,
  run_after timestamptz not null default now()
);
comment on table rollcall_internal.deleted_accounts is 'Deleted accounts whose data a server is to erase.';
-- No policies: only the server uses it.
alter table rollcall_internal.deleted_accounts enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.deleted_accounts', 'user_id', false, null, 'ids only, deleted with the data of the account');

-- The deletion does not wait for the erasure. The argument is the column with the user ID.
-- Definer: called by whoever deletes accounts.
create function rollcall_internal.on_accounts_deleted() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rollcall_internal.deleted_accounts (user_id)
    select (to_jsonb(a) ->> tg_argv[0])::uuid from old_rows a
    on conflict do nothing;
  return null;
end
$$;
comment on function rollcall_internal.on_accounts_deleted is
  'Trigger function: notes accounts whose data is to be erased.';

-- Invoker: creates a trigger, for which the caller needs the right on the table.
create function rollcall.watch_accounts(p_table regclass, p_column text default 'id') returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create or replace trigger rollcall_accounts_deleted after delete on %s referencing old table as '
    'old_rows for each statement execute function rollcall_internal.on_accounts_deleted(%L)', p_table, p_column);
end
$$;
comment on function rollcall.watch_accounts is
  'From now on, deleting a row of this table of accounts erases the data of the user whose ID is in the column.';

-- Definer: for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.erase_deleted_accounts(p_limit int) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_user pg_catalog.uuid;
  v_count bigint := 0;
begin
  for v_user in
    select a.user_id from rollcall_internal.deleted_accounts a where a.run_after <= clock_timestamp()
    order by a.run_after, a.user_id limit p_limit for update skip locked
  loop
    begin
      delete from rollcall.contacts c where v_user in (c.requester_id, c.addressee_id);
      delete from rollcall.team_members m where m.user_id = v_user;
      delete from rollcall.conversation_participants p where p.user_id = v_user;
      perform rollcall.forget(v_user);
      delete from rollcall_internal.deleted_accounts a where a.user_id = v_user;
      v_count := v_count + 1;
    exception when others then
      -- Such as a deadlock with a request that is still running.
      raise warning 'erasing the data of a deleted account failed, trying again later: %', sqlerrm;
      update rollcall_internal.deleted_accounts a set run_after = clock_timestamp() + interval '5 minutes'
        where a.user_id = v_user;
    end;
  end loop;
  return v_count;
end
$$;
comment on function rollcall_internal.erase_deleted_accounts is
  'Erases the data of at most p_limit deleted accounts; returns of how many.';

-- Context signals -----------------------------------------------------------------------------------------------------

-- Signals on the device's row, from which context is prepared ahead and which the user's other devices show. They
-- change no face and are sent to no other user.
-- The version is a time, because a sequence would count the changes of other users.
-- Definer: called from triggers of any writer; writes only the new row.
create function rollcall_internal.set_context_version() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.context_version := greatest(old.context_version + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
  new.context_updated_at := date_trunc('milliseconds', clock_timestamp());
  if new.last_navigation_path is not null
    and (tg_op = 'INSERT' or new.last_navigation_path is distinct from old.last_navigation_path)
  then
    select jsonb_agg(step.place order by step.number) into new.navigation_history
    from (
      select places.place, places.number
      from jsonb_array_elements(new.navigation_history || jsonb_build_array(
          jsonb_build_object('path', new.last_navigation_path,
            'at', rollcall.iso_time(new.context_updated_at))))
        with ordinality as places (place, number)
      order by places.number desc
      limit 10
    ) step;
  end if;
  return new;
end
$$;
comment on function rollcall_internal.set_context_version is
  'Trigger function: numbers and dates a change of context signals, and extends the navigation history.';

-- One notification per row: batches (heartbeats, statuses, connections) do not touch these columns and do not fire it.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_context() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_nonce constant text := rollcall_internal.notification_nonce();
begin
  perform rollcall_internal.notify('rollcall_context',
    (rollcall_internal.mask_ids(v_nonce, array[new.user_id]))[1] || ':' || new.context_version, v_nonce);
  return null;
end
$$;
comment on function rollcall_internal.notify_context is 'Trigger function: notifies nodes of changed context signals.';

create trigger set_context_version_of_new before insert on rollcall.presence_devices
  for each row
  when (num_nonnulls(new.active_conversation_id, new.active_notebook_id, new.active_persona_id,
      new.last_navigation_path, new.local_time) > 0 or new.visible_conversation_ids <> '{}')
  execute function rollcall_internal.set_context_version();
create trigger set_context_version before update of active_conversation_id, visible_conversation_ids,
  active_notebook_id,
    active_persona_id, last_navigation_path, local_time on rollcall.presence_devices
  for each row
  when ((old.active_conversation_id, old.visible_conversation_ids, old.active_notebook_id, old.active_persona_id,
      old.last_navigation_path, old.local_time)
    is distinct from (new.active_conversation_id, new.visible_conversation_ids, new.active_notebook_id,
      new.active_persona_id, new.last_navigation_path, new.local_time))
  execute function rollcall_internal.set_context_version();
create trigger notify_context_of_new after insert on rollcall.presence_devices
  for each row when (new.context_version is not null) execute function rollcall_internal.notify_context();
create trigger notify_context after update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on rollcall.presence_devices
  for each row when (old.context_version is distinct from new.context_version)
  execute function rollcall_internal.notify_context();

-- schemas/45_visibility.sql ------------------------------------------------------------------------------------------

-- How the server queries row-level security for many viewers, which tables visibility depends on, and how DBAs look at
-- it. Nothing here decides who sees whom.

-- For each viewer, as that viewer: which of its relations and followed users it sees. With p_full[i] all of them,
-- otherwise those in p_scope. A policy that raises for one viewer yields one row with `error` for that viewer only.
--   p_follow and p_scope hold the viewers' lists one after the other; p_*_end[i] is where the i-th list ends.
-- Returns up to three rows per viewer with candidates, one for each face that it sees of them and one (face is null)
-- for those of whom it sees none; and one row per conversation in which the viewer may see users type, who are in
-- `related`. Half a second after the start no further viewer is queried: the next one has one row with the error
-- `later`, and those after it have none. So viewers with many relations do not use up the timeout of the statement
-- together.
-- Stable, so that all viewers are queried in the snapshot of the calling statement, which reads the faces too.
-- Invoker: it assumes the viewers' roles, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies: each viewer's role sets its own.
-- Over 60 lines: two result sets and the error row share the role.
create function rollcall_internal.visible_users(
  p_role text[], p_claims text[], p_full boolean[],
  p_follow uuid[], p_follow_end int[], p_scope uuid[], p_scope_end int[]
) returns table (
  viewer int, face rollcall.presence_face, related uuid[], followed uuid[], conversation_id text, id_is_number boolean,
  error text
)
  language plpgsql stable security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  -- Of each role once, before any role is assumed.
  v_paths constant pg_catalog.text[] := array(
    select p.path
    from pg_catalog.unnest(p_role) with ordinality as o (role, place)
    join (
      select d.role, rollcall.role_search_path(d.role) as path
        from (select distinct pg_catalog.unnest(p_role) as role) d offset 0
    ) p using (role)
    order by o.place
  );
  v_last_start constant pg_catalog.timestamptz := clock_timestamp() + interval '500 milliseconds';
  v_full boolean;
  v_follow pg_catalog.uuid[];
  v_scope pg_catalog.uuid[];
begin
  for i in 1 .. pg_catalog.cardinality(p_role) loop
    if i > 1 and clock_timestamp() > v_last_start then
      return query select i, null::rollcall.presence_face, null::pg_catalog.uuid[], null::pg_catalog.uuid[],
        null::pg_catalog.text, null::boolean, 'later'::pg_catalog.text;
      exit;
    end if;
    v_full := p_full[i];
    v_follow := p_follow[coalesce(p_follow_end[i - 1], 0) + 1 : p_follow_end[i]];
    v_scope := p_scope[coalesce(p_scope_end[i - 1], 0) + 1 : p_scope_end[i]];
    begin
      perform set_config('role', p_role[i], true), set_config('request.jwt.claims', p_claims[i], true),
        set_config('search_path', v_paths[i], true);
      return query
        select i, p.face, pg_catalog.array_agg(candidate.id) filter (where candidate.related),
          pg_catalog.array_agg(candidate.id) filter (where not candidate.related), null::pg_catalog.text, null::boolean,
          null::pg_catalog.text
        from (
          select either.id, bool_or(either.related) as related
          from (
            select r.id, true as related from rollcall.my_relations() as r (id)
            union all
            select f.id, false from pg_catalog.unnest(v_follow) as f (id)
          ) either
          where v_full or either.id = any (v_scope)
          group by either.id
        ) candidate
        left join rollcall.user_presence p on p.user_id = candidate.id
        group by p.face;
      return query
        select i, null::rollcall.presence_face, pg_catalog.array_agg(t.user_id), null::pg_catalog.uuid[],
          t.conversation_id, t.id_is_number, null::pg_catalog.text
        from rollcall.my_conversation_ids() as mine (id)
        join rollcall.typing_indicators t on t.conversation_id = mine.id
        where v_full or t.user_id = any (v_scope)
        group by t.conversation_id, t.id_is_number;
    exception when others then
      return query select i, null::rollcall.presence_face, null::pg_catalog.uuid[], null::pg_catalog.uuid[],
        null::pg_catalog.text, null::boolean, sqlstate::pg_catalog.text;
    end;
  end loop;
  perform set_config('role', 'none', true), set_config('request.jwt.claims', '', true),
    set_config('search_path', v_own_path, true);
end
$$;
comment on function rollcall_internal.visible_users is
  'Whom each of several viewers sees, queried with that viewers role and claims.';

-- The faces of these users, the n-th face of the n-th user. By nested loops over the primary key whatever the
-- statistics say: PostgreSQL overestimates how many users a viewer sees, and a hash join would read all faces.
-- Stable: see visible_users.
-- Invoker: only the server calls it.
create function rollcall_internal.stored_faces(p_users uuid[], p_faces rollcall.presence_face[])
  returns setof rollcall.user_presence
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan set jit = off
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
  return query
    select p.*
    from unnest(p_users, p_faces) as shown (user_id, face)
    join rollcall.user_presence p on p.user_id = shown.user_id and p.face = shown.face;
end
$$;
comment on function rollcall_internal.stored_faces is 'Faces of some users, by index.';

-- Followed tables -----------------------------------------------------------------------------------------------------

-- Definer: see invalidate_visibility.
create function rollcall_internal.on_watched_table_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.note_visibility_change(null, null, tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_watched_table_changed is
  'Trigger function: a changed table that policies read invalidates all visibility.';

-- Arguments: the columns that matter. Trigger arguments do not depend on columns, so these can be dropped and altered.
-- Definer: see note_visibility_change. Column names come from the catalog.
create function rollcall_internal.on_watched_columns_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_after text[];
  v_void text;
begin
  begin
    -- Triggers read virtual generated columns as null.
    if not rollcall_internal.has_virtual_column(tg_relid, tg_argv) then
      execute rollcall_internal.transitions_as_text(tg_argv) into v_before, v_after;
      if v_before is not distinct from v_after then
        return null;
      end if;
    end if;
  exception when others then
    -- An error here must not fail the statement of the application.
    null;
  end;
  v_void := rollcall_internal.note_visibility_change(null, null, tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_watched_columns_changed is
  'Trigger function: changed values of columns that policies read invalidate all visibility.';

-- p_pair names the columns of viewer and subject, '' for none; p_viewers and p_subjects are their values in the changed
-- rows, as text. With a join (see users_joined), the first column is the joined one. Rows that are not known, and more
-- than 10,000, may concern everybody. A loop, because a query costs more than the few rows of most statements.
-- Invoker, with the search_path of its caller: see note_visibility_change.
create function rollcall_internal.note_changed_rows(
  p_pair text[], p_join text, p_viewers text[], p_subjects text[], p_are_known boolean, p_source text
) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_values pg_catalog.text[];
  v_viewer pg_catalog.uuid;
  v_subject pg_catalog.uuid;
  v_viewers pg_catalog.uuid[] := '{}';
  v_subjects pg_catalog.uuid[] := '{}';
  v_void pg_catalog.text;
begin
  if p_are_known is not true or pg_catalog.cardinality(p_viewers) > 10000 then
    v_void := rollcall_internal.note_visibility_change(null, null, p_source);
    return;
  end if;
  if p_join <> '' then
    v_values := array(select distinct v.value from pg_catalog.unnest(p_viewers) as v (value) where v.value is not null);
    if v_values <> '{}' then
      v_void := rollcall_internal.note_joined_change(p_join, v_values, p_source);
    end if;
    return;
  end if;
  for v_at in 1 .. pg_catalog.cardinality(p_viewers) loop
    v_viewer := rollcall_internal.text_as_uuid(p_viewers[v_at]);
    v_subject := rollcall_internal.text_as_uuid(p_subjects[v_at]);
    -- A null in a column of the pair equals nobody.
    if (p_pair[1] = '' or v_viewer is not null) and (p_pair[2] = '' or v_subject is not null) then
      v_viewers := v_viewers || v_viewer;
      v_subjects := v_subjects || v_subject;
    end if;
  end loop;
  if pg_catalog.cardinality(v_viewers) > 1 then
    v_viewers := array(select distinct v.id from pg_catalog.unnest(v_viewers) as v (id));
    v_subjects := array(select distinct s.id from pg_catalog.unnest(v_subjects) as s (id));
  end if;
  if v_viewers <> '{}' then
    v_void := rollcall_internal.note_policy_change(
      case when p_pair[1] <> '' then v_viewers end, case when p_pair[2] <> '' then v_subjects end, p_source);
  end if;
end
$$;
comment on function rollcall_internal.note_changed_rows is
  'Appends to the visibility log whom the changed rows of a watched table concern.';

-- Arguments: the columns of viewer and subject of each pair as in concerned_columns and its join, '' for none. There is
-- no dynamic SQL, because it is planned each time. An error while rows are read must not fail the statement of the
-- application: everything is invalidated instead.
-- Definer: see note_visibility_change.
create function rollcall_internal.on_watched_rows_added_or_removed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text[];
  v_viewers text[];
  v_subjects text[];
  v_are_known boolean;
  v_void text;
begin
  for v_at in 0 .. tg_nargs - 1 by 3 loop
    v_pair := array[tg_argv[v_at], tg_argv[v_at + 1]];
    begin
      if tg_op = 'INSERT' then
        select array_agg(n.fields ->> v_pair[1]), array_agg(n.fields ->> v_pair[2]),
            bool_and(n.fields ?& array_remove(v_pair, ''))
          into v_viewers, v_subjects, v_are_known
        from (select to_jsonb(r) as fields from new_rows r limit 10001) n;
      else
        select array_agg(o.fields ->> v_pair[1]), array_agg(o.fields ->> v_pair[2]),
            bool_and(o.fields ?& array_remove(v_pair, ''))
          into v_viewers, v_subjects, v_are_known
        from (select to_jsonb(r) as fields from old_rows r limit 10001) o;
      end if;
      -- Null without rows.
      exit when v_are_known is null;
    exception when others then
      v_are_known := false;
    end;
    v_void := rollcall_internal.note_changed_rows(v_pair, tg_argv[v_at + 2], v_viewers, v_subjects, v_are_known,
      tg_table_schema || '.' || tg_table_name);
  end loop;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_rows_added_or_removed is
  'Trigger function: rows of a table that policies read invalidate visibility of the users whom they concern.';

-- Arguments: the number of pairs, the pairs as in on_watched_rows_added_or_removed, and the columns that matter. In a
-- statement that changes more than 1,000 rows, an update of these columns invalidates everything.
-- Definer: see note_visibility_change. Column names come from the catalog.
create function rollcall_internal.on_watched_rows_updated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs integer := 1;
  v_pair text[];
  v_before text[];
  v_after text[];
  v_viewers text[];
  v_subjects text[];
  v_are_known boolean := false;
  v_void text;
begin
  -- An error here must not fail the statement of the application.
  begin
    v_pairs := tg_argv[0];
    if not rollcall_internal.has_virtual_column(tg_relid, tg_argv[1 : tg_nargs - 1]) then
      execute rollcall_internal.transitions_as_text(tg_argv[3 * v_pairs + 1 : tg_nargs - 1]) into v_before, v_after;
      if v_before is not distinct from v_after then
        return null;
      end if;
      v_are_known := cardinality(v_after) <= 1000;
    end if;
  exception when others then
    v_are_known := false;
  end;
  for v_at in 1 .. case when v_are_known then v_pairs else 1 end loop
    v_pair := array[tg_argv[3 * v_at - 2], tg_argv[3 * v_at - 1]];
    begin
      if v_are_known then
        select array_agg(c.fields ->> v_pair[1]), array_agg(c.fields ->> v_pair[2]),
            bool_and(c.fields ?& array_remove(v_pair, ''))
          into v_viewers, v_subjects, v_are_known
        from (
          select to_jsonb(o.r) as fields from (select r, row_number() over () as n from old_rows r) as o (r, n)
          where v_before[o.n] is distinct from v_after[o.n]
          union all
          select to_jsonb(n.r) from (select r, row_number() over () as n from new_rows r) as n (r, n)
          where v_before[n.n] is distinct from v_after[n.n]
        ) c;
      end if;
    exception when others then
      v_are_known := false;
    end;
    v_void := rollcall_internal.note_changed_rows(v_pair, tg_argv[3 * v_at], v_viewers, v_subjects, v_are_known,
      tg_table_schema || '.' || tg_table_name);
  end loop;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_rows_updated is
  'Trigger function: updated rows of a table that policies read invalidate visibility of the users whom they concern.';

-- Makes sockets follow a table; updates count if they change one of these columns, null stands for all. p_pairs names
-- the users whom a row concerns, as in concerned_columns. Returns false if the table was followed before, or if
-- rollcall.watch or rollcall.watch_table (p_is_declared) declared how.
-- Invoker: needs the right to create triggers on that table.
create function rollcall_internal.follow_table(
  p_table regclass, p_columns text[], p_pairs jsonb default null, p_is_declared boolean default false
) returns boolean
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns constant text[] := array(select c.name from unnest(p_columns) c (name) order by c.name);
  v_declared constant text[] := case when p_is_declared then array['declared'] else '{}' end;
  -- Viewer, subject and join of each pair.
  v_sides constant text[] := array(
    select coalesce(pair.sides ->> side.place, '')
    from jsonb_array_elements(p_pairs) with ordinality as pair (sides, place)
    cross join generate_series(0, 2) as side (place)
    order by pair.place, side.place);
  v_is_followed constant boolean := exists (
    select from pg_catalog.pg_trigger t where t.tgrelid = p_table and t.tgname = 'rollcall_watch');
begin
  if exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = p_table and (t.tgname = 'invalidate_after_insert'
      or t.tgname = 'rollcall_watch' and t.tgargs = rollcall_internal.trigger_arguments(array['declared'])
        and not p_is_declared))
  then
    return false;
  end if;
  perform rollcall_internal.set_triggers(p_table, '^rollcall_watch(_insert|_update|_delete)?$', jsonb_build_array(
    jsonb_build_object('name', 'rollcall_watch', 'events', case
        when p_columns is null then 'insert or update or delete or truncate'
        when p_pairs is null then 'insert or delete or truncate'
        else 'truncate' end,
      'function', 'on_watched_table_changed', 'arguments', v_declared),
    -- Without columns, nothing that a policy reads can be updated: the rows alone matter.
    case when p_pairs is null and cardinality(v_columns) > 0 then
      jsonb_build_object('name', 'rollcall_watch_update', 'events', 'update',
        'function', 'on_watched_columns_changed', 'arguments', v_columns) end)
    || case when p_pairs is null then '[]' else jsonb_build_array(
      jsonb_build_object('name', 'rollcall_watch_insert', 'events', 'insert',
        'function', 'on_watched_rows_added_or_removed', 'arguments', v_sides),
      jsonb_build_object('name', 'rollcall_watch_delete', 'events', 'delete',
        'function', 'on_watched_rows_added_or_removed', 'arguments', v_sides),
      jsonb_build_object('name', 'rollcall_watch_update', 'events', 'update', 'function', 'on_watched_rows_updated',
        'arguments', (cardinality(v_sides) / 3)::text || v_sides || v_columns)) end);
  return not v_is_followed;
end
$$;
comment on function rollcall_internal.follow_table is
  'Makes sockets follow rows, and updates of some columns, of a table that decides who sees whom.';

-- Tables that policies mention are followed automatically; call it for a table that only the text of a function names.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_table(p_table regclass) returns boolean
  language sql security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.follow_table(p_table, null, null, true)
$$;
comment on function rollcall.watch_table is
  'Makes sockets follow a table that decides who sees whom; false when it is followed already.';
grant execute on function rollcall.watch_table to service_role;

-- Functions of Rollcall are not examined: triggers on its tables know the users concerned.
-- Definer: reads catalogs only.
create function rollcall.visibility_sources() returns setof regclass
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.policy_sources('visibility')
$$;
comment on function rollcall.visibility_sources is 'Tables that decide who sees whom.';

-- Then every change of a face may change who sees it, and each change is queried again.
-- Definer: reads catalogs only.
create function rollcall_internal.policies_read_state() returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = 'rollcall.user_presence'::regclass
      and p.polcmd in ('r', '*')
      and d.deptype = 'n'
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p.polrelid
      -- A reference to the whole row has no column number.
      and d.refobjsubid not in (
        select a.attnum from pg_catalog.pg_attribute a
        where a.attrelid = p.polrelid and a.attname in ('user_id', 'face')
      )
  )
$$;
comment on function rollcall_internal.policies_read_state is
  'Whether policies on user_presence read more of a row than user and face.';

-- Definer: the owner may create triggers on tables that it owns; doctor reports the others.
create function rollcall.watch_visibility_sources() returns setof regclass
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_columns text[];
begin
  -- One analysis at a time, so that each sees what the others committed.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.watch_sources', 0));
  perform rollcall_internal.examine_policies('visibility');
  for v_table in select s from rollcall.visibility_sources() s loop
    v_columns := rollcall_internal.columns_in_policies('visibility', v_table);
    begin
      if rollcall_internal.follow_table(v_table, v_columns,
        rollcall_internal.concerned_columns('visibility', v_table, v_columns))
      then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open sockets only with the next full look', v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_visibility_sources();', v_table,
          current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_visibility_sources is
  'Follows every table that visibility depends on; returns the tables that were added.';

-- Arguments: the columns of viewer and subject, '' for none.
-- Definer: see invalidate_visibility. rollcall.watch sets the column names.
create function rollcall_internal.on_watched_pairs_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_viewers uuid[];
  v_subjects uuid[];
  v_any boolean;
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
  v_void text;
begin
  execute format(
    'select count(*) > 0, %s, %s from (%s) changed',
    case tg_argv[0] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')',
        tg_argv[0]) end,
    case tg_argv[1] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')',
        tg_argv[1]) end,
    v_rows) into v_any, v_viewers, v_subjects;
  if v_any and v_viewers is distinct from '{}' and v_subjects is distinct from '{}' then
    v_void := rollcall_internal.note_policy_change(v_viewers, v_subjects, tg_table_schema || '.' || tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_pairs_changed is
  'Trigger function: changed rows of a followed table invalidate visibility between the users they name.';

-- Null for a column stands for all viewers or all subjects. For tables of which Rollcall cannot derive from policies
-- whom a row concerns. Use it only for tables whose rows concern no other users. A later declaration replaces it.
-- Invoker: needs to own the table, to replace triggers.
create function rollcall.watch(p_table regclass, p_viewer_column name, p_subject_column name) returns void
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_column name;
begin
  if p_viewer_column is null and p_subject_column is null then
    raise exception 'at least one of viewer column and subject column is required' using
      errcode = 'invalid_parameter_value', hint = format('For neither: select rollcall.watch_table(%L);',
        p_table::text);
  end if;
  foreach v_column in array array[p_viewer_column, p_subject_column] loop
    if v_column is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_table and a.attname = v_column and a.attnum > 0 and not a.attisdropped
        and a.atttypid = 'uuid'::regtype
    ) then
      raise exception '% has no column % of type uuid', p_table, quote_ident(v_column)
        using errcode = 'undefined_column';
    end if;
  end loop;
  if exists (
    select from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
    where t.tgrelid = p_table and t.tgname = 'invalidate_after_insert' and f.proname <> 'on_watched_pairs_changed'
  ) then
    raise exception '% is a table of Rollcall, which sockets follow already', p_table
      using errcode = 'object_not_in_prerequisite_state';
  end if;

  perform rollcall_internal.set_triggers(p_table, '^rollcall_watch(_insert|_update|_delete)?$', '[]');
  perform rollcall_internal.set_triggers(p_table, '^invalidate_after_(insert|update|delete|truncate)$', (
    select jsonb_agg(jsonb_build_object('name', 'invalidate_after_' || e.event, 'events', e.event,
      'function', 'on_watched_pairs_changed',
      'arguments', array[coalesce(p_viewer_column, ''), coalesce(p_subject_column, '')]::text[]))
    from unnest(array['insert', 'update', 'delete']) as e (event))
    || jsonb_build_array(jsonb_build_object('name', 'invalidate_after_truncate', 'events', 'truncate',
      'function', 'on_watched_table_changed', 'arguments', '{}'::text[])));
end
$$;
comment on function rollcall.watch is
  'Declares which columns of a table name viewer and subject, so that only these users are queried again.';
grant execute on function rollcall.watch to service_role;

-- Changes of policies -------------------------------------------------------------------------------------------------

-- Catalog rows are read with the snapshot of the statement, so a reader compares it with the faces of the same
-- snapshot.
-- Definer: reads catalogs only.
create function rollcall_internal.policy_fingerprint() returns bigint
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(hashtextextended(part, 0) % 4294967296), 0)::bigint
  from (
    select p.oid::text || p.xmin::text as part from pg_catalog.pg_policy p
    union all
    select c.oid::text || c.relrowsecurity::text || c.relforcerowsecurity::text || coalesce(c.relacl::text, '')
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace s on s.oid = c.relnamespace and s.nspname !~ '^pg_'
      and s.nspname <> 'information_schema'
    where c.relkind in ('r', 'p', 'v', 'm')
    union all
    -- A view may be replaced.
    select r.oid::text || r.xmin::text from pg_catalog.pg_rewrite r where r.ev_class >= 16384
    union all
    select f.oid::text || f.xmin::text from pg_catalog.pg_proc f
    where f.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  ) as parts
$$;
comment on function rollcall_internal.policy_fingerprint is
  'One number for everything in the catalogs that visibility depends on.';

-- Definer: runs for any role that issues DDL.
create function rollcall_internal.on_ddl() returns event_trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  -- Objects of Rollcall may be missing while they are dropped together.
  if to_regclass('rollcall_internal.visibility_log') is null or to_regclass('rollcall.user_presence') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE', 'ALTER ROUTINE', 'DROP ROUTINE',
      'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
      'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE', 'DROP TYPE', 'DROP SCHEMA',
      'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    if tg_tag in ('DROP TABLE', 'ALTER TABLE', 'DROP SCHEMA', 'ALTER SCHEMA', 'DROP OWNED', 'DROP EXTENSION')
      and exists (select from rollcall_internal.own_tables)
    then
      perform rollcall_internal.refresh_own_tables();
    end if;
    v_void := rollcall_internal.note_visibility_change(null, null, lower(tg_tag));
  end if;
  if tg_tag = 'CREATE PUBLICATION' then
    perform rollcall_internal.publish_presence();
  end if;
  -- A partition of a table in use, which is followed too.
  if tg_tag = 'CREATE TABLE' and exists (
    select from pg_catalog.pg_event_trigger_ddl_commands() c
    join pg_catalog.pg_inherits i on i.inhrelid = c.objid
    where exists (select from rollcall_internal.own_tables))
  then
    perform rollcall_internal.refresh_own_tables();
  end if;
  -- A table may be created after the function that reads it.
  if tg_tag = any (rollcall_internal.tags_of_new_dependencies())
    and rollcall_internal.ddl_concerns_policies('visibility')
  then
    perform rollcall.watch_visibility_sources();
  end if;
end
$$;
comment on function rollcall_internal.on_ddl is
  'Event trigger function: DDL invalidates all visibility; follows new tables and publications.';

-- Views and explanations ----------------------------------------------------------------------------------------------

-- Invoker: shows what the policies on user_presence show.
create view rollcall.online with (security_invoker = true) as
  select distinct on (p.user_id)
    p.user_id, p.status, p.reach, p.custom_status, p.activity, p.current_page, p.last_seen, p.idle_since
  from rollcall.user_presence p
  where p.reach <> 'offline'
  order by p.user_id, p.face desc;
comment on view rollcall.online is
  'Users that are online, one row each, as the current role sees them: the owner and service_role see the trusted '
  'face.';
revoke all on rollcall.online from anon, authenticated, service_role;
grant select on rollcall.online to authenticated, service_role;

-- Invoker: shows what the policies on presence_devices show.
create view rollcall.online_devices with (security_invoker = true) as
  select
    d.user_id, d.device_id, d.device_name, d.device_type, d.platform, d.app_version, d.status,
    rollcall.any_node_lives(d.nodes) as connected, d.session_started_at, d.last_heartbeat_at, d.last_active_at,
    d.idle_since, d.activity, d.current_page
  from rollcall.presence_devices d
  where d.live;
comment on view rollcall.online_devices is
  'Live devices; connected ones hold a socket, the others live on heartbeats. Users see their own.';
revoke all on rollcall.online_devices from anon, authenticated, service_role;
grant select on rollcall.online_devices to authenticated, service_role;

-- The first of these that applies. explain_visibility uses it after it has evaluated the policies.
-- Definer: reads blocks, lists and settings of all users; service_role only.
-- Over 60 lines: one case after the other, in the order of the policies.
create function rollcall.visibility_evidence(p_viewer uuid, p_subject uuid)
  returns table (allows boolean, decided_by text, evidence jsonb, reason text)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_row record;
  v_setting rollcall.presence_visibility;
  v_default boolean := false;
  v_own jsonb;
  v_counts boolean;
begin
  if p_viewer = p_subject then
    return query select true, 'self', null::jsonb, 'users see their own trusted face';
    return;
  end if;

  v_own := rollcall_internal.own_evidence('blocks', p_viewer, p_subject);
  if v_own is not null and exists (select from rollcall_internal.blocks_between(p_viewer, p_subject)) then
    return query select false, 'block', v_own, 'one of them has blocked the other; a block beats everything else';
    return;
  end if;
  select b.* into v_row from rollcall.blocks b
    where (b.blocker_id, b.blocked_id) in ((p_viewer, p_subject), (p_subject, p_viewer)) and v_own is null
    order by b.blocker_id = p_viewer desc limit 1;
  if found then
    return query select false, 'block', jsonb_build_object('table', 'blocks', 'row', to_jsonb(v_row)),
      case when v_row.blocker_id = p_viewer then 'the viewer has blocked the subject'
        else 'the subject has blocked the viewer' end
        || '; a block beats everything else';
    return;
  end if;

  select l.* into v_row from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = p_viewer;
  if found then
    return query select true, 'list', jsonb_build_object('table', 'presence_visibility_list', 'row', to_jsonb(v_row)),
      'the viewer is on the subject''s visibility list, and so sees the trusted face, whatever the settings';
    return;
  end if;

  select s.visibility into v_setting from rollcall.presence_settings s where s.user_id = p_subject;
  if not found then
    v_setting := 'contacts';
    v_default := true;
  end if;
  if v_setting in ('nobody', 'everyone') then
    return query select v_setting = 'everyone', 'setting',
      jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting),
      format('the subject shows the public face to %s', v_setting);
    return;
  end if;

  v_own := rollcall_internal.own_evidence(case v_setting when 'contacts' then 'contacts' else 'team_members' end,
    p_viewer, p_subject);
  if v_own is not null then
    v_counts := case v_setting
      when 'contacts' then exists (select from rollcall_internal.contacts_of(p_viewer) as c (id) where c.id = p_subject)
      else exists (select from rollcall_internal.team_mates_of(p_viewer) as t (id) where t.id = p_subject) end;
    if v_counts or v_own ->> 'row' is not null then
      return query select v_counts, case v_setting when 'contacts' then 'contact' else 'team' end, v_own,
        format('%s relates them%s, and the subject shows the public face to %s', v_own ->> 'table',
          case when v_counts then '' else ', but its condition does not hold' end,
          case v_setting when 'team' then 'team mates' else 'contacts' end);
      return;
    end if;
  elsif v_setting = 'contacts' then
    select c.* into v_row from rollcall.contacts c
      where (c.requester_id, c.addressee_id) in ((p_viewer, p_subject), (p_subject, p_viewer))
      order by c.accepted_at is not null desc limit 1;
    if found then
      return query select v_row.accepted_at is not null, 'contact',
        jsonb_build_object('table', 'contacts', 'row', to_jsonb(v_row)),
        case when v_row.accepted_at is null
          then 'they are to be contacts, but nobody has accepted yet; the subject shows the public face to contacts'
          else 'they are contacts, and the subject shows the public face to contacts' end;
      return;
    end if;
  else
    select theirs.*, mine.accepted_at is not null and theirs.accepted_at is not null as counts into v_row
    from rollcall.team_members mine
    join rollcall.team_members theirs using (team_id)
    where mine.user_id = p_viewer and theirs.user_id = p_subject
    order by counts desc, theirs.team_id limit 1;
    if found then
      return query select v_row.counts, 'team', jsonb_build_object('table', 'team_members', 'row',
        to_jsonb(v_row) - 'counts'),
        case when v_row.counts then 'they share a team, and the subject shows the public face to team mates'
          else 'they would share a team, but one of them has not accepted; '
            'the subject shows the public face to team mates' end;
      return;
    end if;
  end if;
  return query select false, 'setting',
    jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting, 'default', v_default),
    format('the subject shows the public face to %s, and the viewer is none', case v_setting when 'team'
      then 'team mates' else 'contacts' end);
end
$$;
comment on function rollcall.visibility_evidence is
  'The rows and settings by which Rollcalls own policies decide between two users.';
grant execute on function rollcall.visibility_evidence to service_role;

-- One row per face that the viewer sees, or one row with `visible` false.
--   decided_by  self, block, list, setting, contact, team: by Rollcall's own policies, with the row or setting in
--               `evidence`;
--               policy: by another one, named in `policy`; never_seen: there is no face; grant: the role may not read;
--               error: a policy raised; row_level_security: it is switched off
--   policy      the policies that allow it, or the restrictive one that forbids it
-- Each policy is evaluated alone, as the viewer, on the subject's row. The result is what `select` as the viewer
-- returns; where the two differ, `decided_by` is `policy` and `policy` is null.
-- Invoker: it assumes the viewer's role, which the session's login role must be a member of. Without a search_path of
-- its own, because it evaluates users' policies.
-- Over 60 lines: one case after the other.
create function rollcall.explain_visibility(p_viewer uuid, p_subject uuid, p_claims jsonb default '{}')
  returns table (visible boolean, face rollcall.presence_face, decided_by text, policy text, evidence jsonb,
    reason text)
  language plpgsql volatile security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_path constant pg_catalog.text := rollcall.role_search_path('authenticated');
  v_role constant pg_catalog.text := current_setting('role');
  v_claims constant pg_catalog.text := coalesce(current_setting('request.jwt.claims', true), '');
  v_ours constant pg_catalog.text[] := array['users read their trusted face', 'viewers read the face shown to them'];
  v_row rollcall.user_presence;
  v_policy record;
  v_seen rollcall.presence_face[];
  v_verdict boolean;
  v_allows pg_catalog.text[];
  v_forbids pg_catalog.text[];
  v_using pg_catalog.jsonb;
  v_fact record;
begin
  if not coalesce((select c.relrowsecurity from pg_catalog.pg_class c
    where c.oid = 'rollcall.user_presence'::pg_catalog.regclass), false)
  then
    return query select true, p.face, 'row_level_security', null::pg_catalog.text, null::pg_catalog.jsonb,
      'row-level security on user_presence is off: everybody who may read the table sees every face'
      from rollcall.user_presence p where p.user_id = p_subject;
    return;
  end if;

  -- What `select` as the viewer returns.
  begin
    perform set_config('request.jwt.claims',
        (p_claims || pg_catalog.jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::pg_catalog.text, true),
      set_config('search_path', v_path, true), set_config('role', 'authenticated', true);
    v_seen := array(select p.face from rollcall.user_presence p where p.user_id = p_subject order by p.face);
    perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true),
      set_config('search_path', v_own_path, true);
  exception when insufficient_privilege then
    return query select false, null::rollcall.presence_face, 'grant', null::pg_catalog.text, null::pg_catalog.jsonb,
      sqlerrm;
    return;
  when others then
    return query select false, null::rollcall.presence_face, 'error', null::pg_catalog.text,
      pg_catalog.jsonb_build_object('sqlstate', sqlstate), sqlerrm;
    return;
  end;

  select e.* into v_fact from rollcall.visibility_evidence(p_viewer, p_subject) e;
  if not exists (select from rollcall.user_presence p where p.user_id = p_subject) then
    return query select false, null::rollcall.presence_face, 'never_seen', null::pg_catalog.text,
      null::pg_catalog.jsonb, 'the subject was never here: there is nothing to see';
    return;
  end if;

  for v_row in
    select p.* from rollcall.user_presence p
    where p.user_id = p_subject and (p.face = any (v_seen) or v_seen = '{}')
    order by p.face
  loop
    v_allows := '{}';
    v_forbids := '{}';
    v_using := '{}';
    for v_policy in
      select l.polname::pg_catalog.text as name, l.polpermissive as permissive,
        pg_catalog.pg_get_expr(l.polqual, l.polrelid) as expression
      from pg_catalog.pg_policy l
      where l.polrelid = 'rollcall.user_presence'::pg_catalog.regclass and l.polcmd in ('r', '*')
        and exists (select from pg_catalog.unnest(l.polroles) r where r = 0 or pg_catalog.pg_has_role('authenticated',
          r, 'usage'))
      order by l.polname
    loop
      begin
        perform set_config('request.jwt.claims',
            (p_claims || pg_catalog.jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::pg_catalog.text,
              true),
          set_config('search_path', v_path, true), set_config('role', 'authenticated', true);
        -- Under the table's name, which the expression uses.
        execute pg_catalog.format('select (%s) from (select ($1::rollcall.user_presence).*) as user_presence',
          v_policy.expression)
          into v_verdict using v_row;
        perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true),
          set_config('search_path', v_own_path, true);
      exception when others then
        v_verdict := null;
      end;
      if v_policy.permissive and v_verdict then
        v_allows := v_allows || v_policy.name;
        v_using := v_using || pg_catalog.jsonb_build_object(v_policy.name, v_policy.expression);
      elsif not v_policy.permissive and v_verdict is not true then
        v_forbids := v_forbids || v_policy.name;
        v_using := v_using || pg_catalog.jsonb_build_object(v_policy.name, v_policy.expression);
      end if;
    end loop;

    if v_row.face = any (v_seen) then
      if v_allows && v_ours and v_fact.allows then
        return query select true, v_row.face, v_fact.decided_by, pg_catalog.array_to_string(v_allows, ', '),
          v_fact.evidence,
          v_fact.reason;
      else
        return query select true, v_row.face, 'policy', nullif(pg_catalog.array_to_string(v_allows, ', '), ''), v_using,
          case when v_allows = '{}' then 'row-level security allows it; which policy cannot be told from outside'
            else pg_catalog.format('allowed by the policy %s', pg_catalog.array_to_string(v_allows, ', ')) end;
      end if;
    elsif v_allows <> '{}' then
      return query select false, null::rollcall.presence_face, 'policy', nullif(pg_catalog.array_to_string(v_forbids,
        ', '), ''),
        v_using,
        pg_catalog.format('the policy %s would allow it, but the restrictive policy %s does not',
          pg_catalog.array_to_string(v_allows, ', '), coalesce(nullif(pg_catalog.array_to_string(v_forbids, ', '), ''),
            'that cannot be told from outside'));
      return;
    end if;
  end loop;

  if v_seen = '{}' then
    if v_fact.allows and exists (
      select from rollcall.user_presence p
      where p.user_id = p_subject
        and p.face = (case when v_fact.decided_by in ('self', 'list') then 'trusted'
          else 'public' end)::rollcall.presence_face
    ) then
      -- Rollcall's own policy would allow it; it was changed or dropped.
      return query select false, null::rollcall.presence_face, 'policy', null::pg_catalog.text, v_fact.evidence,
        'no policy allows it';
    else
      return query select false, null::rollcall.presence_face, v_fact.decided_by, null::pg_catalog.text,
        v_fact.evidence,
        v_fact.reason || case when v_fact.allows then '; but there is no such face to see' else '' end;
    end if;
  end if;
end
$$;
comment on function rollcall.explain_visibility is
  'What a viewer sees of a subject, and which block, list, setting, relation or policy decides it.';
grant execute on function rollcall.explain_visibility to service_role;

-- schemas/47_policy_errors.sql ---------------------------------------------------------------------------------------

-- Policies of our tables that raise an error, by name.

-- Evaluates each policy of the tables in the schema rollcall that applies to a role, alone, as a caller with these
-- claims, on up to 20 rows of its table. Returns the policies that raise. Data exceptions (class 22) are left out: they
-- depend on the values of a row. A policy that needs rights as text that it does not need in the table, such as usage
-- of a function's schema, is left out too, and so is a role that the session may not assume.
-- Invoker: it assumes the caller's role, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies.
create function rollcall_internal.failing_policies(p_role text, p_claims text)
  returns table (relation text, policy text, error text, message text)
  language plpgsql volatile security invoker
as $$
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_own_role constant pg_catalog.text := current_setting('role');
  v_own_claims constant pg_catalog.text := coalesce(current_setting('request.jwt.claims', true), '');
  v_path constant pg_catalog.text := rollcall.role_search_path(p_role);
  v_policy record;
  v_rows pg_catalog.text;
begin
  -- This path qualifies the names in the text of a policy.
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  for v_policy in
    select p.polname, c.relname, e.expression
    from pg_catalog.pg_policy p
    join pg_catalog.pg_class c on c.oid = p.polrelid and c.relnamespace = 'rollcall'::pg_catalog.regnamespace
    cross join lateral (
      select pg_catalog.pg_get_expr(x.node, p.polrelid) as expression
      from (values (p.polqual), (p.polwithcheck)) as x (node)
      where x.node is not null
    ) e
    where rollcall_internal.policy_applies(p.polroles, p_role::pg_catalog.regrole)
    order by c.relname, p.polname
  loop
    execute pg_catalog.format(
      'select pg_catalog.array_agg(t)::pg_catalog.text from (select * from rollcall.%I limit 20) t',
      v_policy.relname) into v_rows;
    begin
      perform set_config('request.jwt.claims', p_claims, true), set_config('search_path', v_path, true),
        set_config('role', p_role, true);
      execute pg_catalog.format('select pg_catalog.count(*) from pg_catalog.unnest($1::rollcall.%1$I[]) as %1$I
        where (%2$s)', v_policy.relname, v_policy.expression) using v_rows;
    exception when others then
      if sqlstate !~ '^22' and sqlerrm !~ '^permission denied (for schema|to set role)' then
        return query select 'rollcall.' || v_policy.relname, v_policy.polname::pg_catalog.text,
          sqlstate::pg_catalog.text, sqlerrm::pg_catalog.text;
      end if;
    end;
    perform set_config('role', v_own_role, true), set_config('search_path', 'pg_catalog, pg_temp', true);
  end loop;
  perform set_config('search_path', v_own_path, true), set_config('request.jwt.claims', v_own_claims, true);
end
$$;
comment on function rollcall_internal.failing_policies is 'Policies of the schema rollcall that raise for a caller.';

-- schemas/69_presence_finish.sql -------------------------------------------------------------------------------------

-- Rights of functions, and what depends on everything before: personal data, the event trigger and followed tables.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence', 'user_id', true, null, 'exists while its channel is open'),
  ('rollcall_internal.event_members', 'user_id', false, null, 'exists while its channel is open'),
  ('rollcall_internal.event_queue', 'user_id', false, 91, 'repeats presence for back ends, for a moment'),
  ('rollcall_internal.events', 'user_id', false, 92, 'repeats presence for back ends, for event_settings.max_age'),
  ('rollcall_internal.dead_letters', 'user_id', false, 93, 'repeats presence for back ends, for 30 days');

-- Without the right to create event triggers, servers compare fingerprints of the policies instead.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch') then
    create event trigger rollcall_policy_watch on ddl_command_end execute function rollcall_internal.on_ddl();
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create an event trigger: policies are compared by fingerprint instead';
end
$$;

do $$
begin
  perform rollcall.watch_authorization_sources(), rollcall.watch_visibility_sources();
  perform rollcall_internal.record_triggers();
end
$$;

-- Records itself, whichever tool applies it.
insert into rollcall.schema_migrations (version, name) values ('20261128000001', 'presence');
