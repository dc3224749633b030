-- Module: presence
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
