-- Module: presence
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
