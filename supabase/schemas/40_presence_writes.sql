-- Module: presence
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
