-- Who may see and change what. This is the one place that decides; the server asks it and adds nothing.
-- Invariant: a viewer gets at most one of a user's two faces, and a block in either direction beats everything.

-- Whom the caller sees by relation, and which face: the trusted one of whoever put the caller on their list, the
-- public one of contacts and team members whose settings say so; nobody on either side of a block.
-- A set, because a policy asks it once a statement (a hashed subplan), where a check a row costs 30 microseconds a row.
-- Definer: it reads blocks, settings and lists of other users, which the caller must not see. It answers for the
-- caller only (auth.uid()), so it tells nobody what a select on user_presence would not.
create function rollcall.my_sight() returns table (subject_id uuid, face public.presence_face)
  language plpgsql stable security definer set search_path = '' rows 50
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with
    hidden as (
      select b.blocked_id as id from public.blocks b where b.blocker_id = v_me
      union all
      select b.blocker_id from public.blocks b where b.blocked_id = v_me
    ),
    listed as (
      select l.user_id as id from public.presence_visibility_list l where l.viewer_id = v_me
    ),
    related as (
      select c.addressee_id as id, 'contacts'::public.presence_visibility as how
      from public.contacts c where c.requester_id = v_me and c.accepted_at is not null
      union all
      select c.requester_id, 'contacts' from public.contacts c where c.addressee_id = v_me and c.accepted_at is not null
      union all
      select theirs.user_id, 'team' from public.team_members mine
      join public.team_members theirs using (team_id)
      where mine.user_id = v_me and mine.accepted_at is not null and theirs.accepted_at is not null
    )
    select l.id, 'trusted'::public.presence_face
    from listed l
    where l.id not in (select h.id from hidden h)
    union
    select r.id, 'public'
    from related r
    left join public.presence_settings s on s.user_id = r.id
    where coalesce(s.visibility, 'contacts') in (r.how, 'everyone')
      and r.id <> v_me
      and r.id not in (select h.id from hidden h)
      and r.id not in (select l.id from listed l);
end
$$;
comment on function rollcall.my_sight is 'Whom the caller sees by relation, and which face of them.';
grant execute on function rollcall.my_sight to authenticated, service_role;

-- Whether a user shows the public face to everyone, the caller included.
-- Definer for the same reason as my_sight.
create function rollcall.open_to_me(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me uuid;
begin
  -- One look-up settles nearly all rows.
  perform from public.presence_settings s where s.user_id = p_subject and s.visibility = 'everyone';
  if not found then
    return false;
  end if;
  v_me := auth.uid();
  return v_me is not null
    and not exists (select from public.blocks b where b.blocker_id = v_me and b.blocked_id = p_subject)
    and not exists (select from public.blocks b where b.blocker_id = p_subject and b.blocked_id = v_me)
    and not exists (select from public.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = v_me);
end
$$;
comment on function rollcall.open_to_me is 'Whether a user shows the public face to everyone, the caller included.';
grant execute on function rollcall.open_to_me to authenticated, service_role;

-- Whether the caller may see that somebody types in a conversation that both take part in. Sharing a conversation
-- is reason enough, except for whoever is hidden from everybody, invisible, or has switched typing off.
-- Definer for the same reason as my_sight.
create function rollcall.typing_shown(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return (
    select case
      when v_me = p_subject then true
      when exists (select from public.blocks b where b.blocker_id = v_me and b.blocked_id = p_subject)
        or exists (select from public.blocks b where b.blocker_id = p_subject and b.blocked_id = v_me)
        then false
      when exists (select from public.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = v_me)
        then true
      else not exists (select from public.presence_choices c where c.user_id = p_subject and c.chosen = 'invisible')
        and not exists (select from public.presence_settings s
          where s.user_id = p_subject and (s.visibility = 'nobody' or not s.show_typing))
      end
  );
end
$$;
comment on function rollcall.typing_shown is 'Whether the caller may see a user type in a conversation that they share.';
grant execute on function rollcall.typing_shown to authenticated, service_role;

-- The caller's own teams and conversations. Definer, because a policy on a membership table that reads the same
-- table would recurse; they answer for the caller only.
create function rollcall.my_teams() returns setof uuid
  language sql stable security definer set search_path = ''
as $$ select m.team_id from public.team_members m where m.user_id = (select auth.uid()) $$;
grant execute on function rollcall.my_teams to authenticated, service_role;

create function rollcall.my_conversations() returns setof uuid
  language sql stable security definer set search_path = ''
as $$ select p.conversation_id from public.conversation_participants p where p.user_id = (select auth.uid()) $$;
grant execute on function rollcall.my_conversations to authenticated, service_role;

-- Everybody related to the caller: accepted contacts, team members, people in shared conversations. Who of them is
-- visible is for the policy on user_presence to say. Definer: read straight, without the policies of five tables.
create function rollcall.my_relations() returns setof uuid
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    select related.id
    from (
      select c.addressee_id as id from public.contacts c where c.requester_id = v_me and c.accepted_at is not null
      union
      select c.requester_id from public.contacts c where c.addressee_id = v_me and c.accepted_at is not null
      union
      select theirs.user_id from public.team_members mine
        join public.team_members theirs using (team_id)
        where mine.user_id = v_me and mine.accepted_at is not null and theirs.accepted_at is not null
      union
      select theirs.user_id from public.conversation_participants mine
        join public.conversation_participants theirs using (conversation_id) where mine.user_id = v_me
    ) related
    where related.id <> v_me;
end
$$;
comment on function rollcall.my_relations is 'Everybody related to the caller, visible or not.';
grant execute on function rollcall.my_relations to authenticated, service_role;

-- Faces --------------------------------------------------------------------------------------------------------

create policy "a user sees the own trusted face" on public.user_presence
  for select to authenticated
  using (user_id = (select auth.uid()) and face = 'trusted');

create policy "a viewer sees the one face that is shown to them" on public.user_presence
  for select to authenticated
  using (
    user_id <> (select auth.uid())
    and (
      (user_id, face) in (select s.subject_id, s.face from rollcall.my_sight() s)
      or (face = 'public' and rollcall.open_to_me(user_id))
    )
  );

-- One's own rows -----------------------------------------------------------------------------------------------

create policy "own devices" on public.presence_devices
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create policy "own choices" on public.presence_choices
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create policy "own last seen" on public.user_last_seen
  for select to authenticated
  using (user_id = (select auth.uid()));

create policy "own settings" on public.presence_settings
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create policy "own visibility list" on public.presence_visibility_list
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- Relations ----------------------------------------------------------------------------------------------------

create policy "both sides see a contact" on public.contacts
  for select to authenticated
  using ((select auth.uid()) in (requester_id, addressee_id));

create policy "a user asks for a contact" on public.contacts
  for insert to authenticated
  with check (requester_id = (select auth.uid()) and accepted_at is null);

create policy "the other side accepts" on public.contacts
  for update to authenticated
  using (addressee_id = (select auth.uid())) with check (addressee_id = (select auth.uid()));

create policy "either side ends a contact" on public.contacts
  for delete to authenticated
  using ((select auth.uid()) in (requester_id, addressee_id));

-- The blocked side must not learn of the block.
create policy "own blocks" on public.blocks
  for all to authenticated
  using (blocker_id = (select auth.uid())) with check (blocker_id = (select auth.uid()));

create policy "members and owners see a team" on public.teams
  for select to authenticated
  using (owner_id = (select auth.uid()) or id in (select rollcall.my_teams()));

create policy "owners manage a team" on public.teams
  for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

create policy "members see each other" on public.team_members
  for select to authenticated
  using (team_id in (select rollcall.my_teams())
    or team_id in (select t.id from public.teams t where t.owner_id = (select auth.uid())));

-- Without the invited one's consent a stranger could make a team, add them, and see them as a team mate.
create policy "owners invite members" on public.team_members
  for insert to authenticated
  with check (
    team_id in (select t.id from public.teams t where t.owner_id = (select auth.uid()))
    and (accepted_at is null or user_id = (select auth.uid()))
  );

create policy "members accept for themselves" on public.team_members
  for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create policy "owners remove members, members leave" on public.team_members
  for delete to authenticated
  using (user_id = (select auth.uid())
    or team_id in (select t.id from public.teams t where t.owner_id = (select auth.uid())));

create policy "participants see a conversation" on public.conversations
  for select to authenticated
  using (created_by = (select auth.uid()) or id in (select rollcall.my_conversations()));

create policy "anyone starts a conversation" on public.conversations
  for insert to authenticated
  with check (created_by = (select auth.uid()));

create policy "its creator changes a conversation" on public.conversations
  for update to authenticated
  using (created_by = (select auth.uid())) with check (created_by = (select auth.uid()));

create policy "its creator ends a conversation" on public.conversations
  for delete to authenticated
  using (created_by = (select auth.uid()));

create policy "participants see each other" on public.conversation_participants
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversations())
    or conversation_id in (select c.id from public.conversations c where c.created_by = (select auth.uid())));

create policy "the creator adds participants" on public.conversation_participants
  for insert to authenticated
  with check (conversation_id in (select c.id from public.conversations c where c.created_by = (select auth.uid())));

create policy "the creator removes participants, participants leave" on public.conversation_participants
  for delete to authenticated
  using (user_id = (select auth.uid())
    or conversation_id in (select c.id from public.conversations c where c.created_by = (select auth.uid())));

create policy "participants see who types" on public.typing_indicators
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversations()) and rollcall.typing_shown(user_id));

create policy "participants type" on public.typing_indicators
  for insert to authenticated
  with check (user_id = (select auth.uid()) and conversation_id in (select rollcall.my_conversations()));

create policy "one types on" on public.typing_indicators
  for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and conversation_id in (select rollcall.my_conversations()));

create policy "one stops typing" on public.typing_indicators
  for delete to authenticated
  using (user_id = (select auth.uid()));

-- Grants -------------------------------------------------------------------------------------------------------
-- Supabase's default privileges grant everything on new tables to the API roles; here each role gets what the
-- policies are for, column by column where a row is the user's own but a column is the server's.

revoke all on public.presence_nodes, public.presence_devices, public.presence_choices, public.user_last_seen,
  public.presence_settings, public.presence_visibility_list, public.user_presence, public.contacts, public.blocks,
  public.teams, public.team_members, public.conversations, public.conversation_participants,
  public.typing_indicators
  from anon, authenticated;

grant select on public.user_presence, public.user_last_seen to authenticated;
grant select, delete on public.presence_devices to authenticated;
grant insert (user_id, device_id, device_name, device_type, platform, app_version, status, activity, current_page),
  update (device_name, device_type, platform, app_version, status, activity, current_page)
  on public.presence_devices to authenticated;
grant select, delete on public.presence_choices to authenticated;
grant insert (user_id, chosen, custom_status, custom_status_expires_at),
  update (chosen, custom_status, custom_status_expires_at)
  on public.presence_choices to authenticated;
grant select, delete on public.presence_settings to authenticated;
grant insert (user_id, visibility, show_last_seen, show_activity, show_custom_status, show_typing),
  update (visibility, show_last_seen, show_activity, show_custom_status, show_typing)
  on public.presence_settings to authenticated;
grant select, delete, insert (user_id, viewer_id) on public.presence_visibility_list to authenticated;
grant select, delete, insert (requester_id, addressee_id), update (accepted_at) on public.contacts to authenticated;
grant select, delete, insert (blocker_id, blocked_id) on public.blocks to authenticated;
grant select, delete, insert (id, name, owner_id), update (name) on public.teams to authenticated;
grant select, delete, insert (team_id, user_id, accepted_at), update (accepted_at) on public.team_members to authenticated;
grant select, delete, insert (id, title, created_by), update (title) on public.conversations to authenticated;
grant select, delete, insert (conversation_id, user_id) on public.conversation_participants to authenticated;
grant select, delete, insert (conversation_id, user_id, expires_at), update (updated_at, expires_at)
  on public.typing_indicators to authenticated;

grant all on public.presence_nodes, public.presence_devices, public.presence_choices, public.user_last_seen,
  public.presence_settings, public.presence_visibility_list, public.user_presence, public.contacts, public.blocks,
  public.teams, public.team_members, public.conversations, public.conversation_participants,
  public.typing_indicators
  to service_role;
grant usage on sequence rollcall.presence_version to service_role;

revoke execute on all functions in schema rollcall from public;
