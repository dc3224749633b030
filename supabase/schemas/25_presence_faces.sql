-- Module: presence
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
