-- Module: presence
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
