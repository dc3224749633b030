-- Writing presence in batches, leases of nodes, and the sweep that ends what nobody keeps alive.
-- Invariant: whoever writes, the faces follow in the same transaction.

-- Applies a batch of presence writes, at most one a user, and returns each user's trusted face as it is then.
-- An activity or page that is null stays as it is; an empty one is cleared.
-- What each kind does to a device:
--   status      what the client says; without a device id it speaks for all live devices, or for `default`
--   connect     a socket opened on p_node; brings an offline device back. Said again, it changes nothing; with p_active the
--               socket opened just now, which brings back also a device that had signed off
--   disconnect  the last socket on p_node closed p_age seconds ago; offline unless another node holds one
--   silent      the socket on p_node says nothing: offline unless another node holds one, but still connected
--   heartbeat   alive; with p_active also looked at. Brings back what was given up, not what signed off
-- Locks as refresh_faces says; a lock that somebody keeps for long fails the batch, so that it can be cut smaller.
-- Definer: the server writes for many users in one statement; it has checked that each writes for itself.
-- Its plans are fixed for the reasons that refresh_faces gives.
create function rollcall.write_presence(
  p_kind text[], p_user uuid[], p_device text[], p_node uuid[], p_age double precision[], p_active boolean[],
  p_status public.presence_status[], p_set_custom boolean[], p_custom text[], p_custom_expires timestamptz[],
  p_activity text[], p_page text[]
) returns setof public.user_presence
  language plpgsql volatile security definer
  set search_path = '' set plan_cache_mode = force_generic_plan set jit = off set lock_timeout = '2s'
  set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_users constant uuid[] := p_user;
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
begin
  perform set_config('rollcall.batch', 'on', true);

  -- The choice comes first: going invisible notes how the user looked before. It is touched only where it changes.
  -- Going offline keeps it: busy holds until changed. Who has none gets an empty one to change: every row that others can
  -- see is locked by one statement, in order, so that two batches never wait for each other.
  if 'status' = any (p_kind) then
    if p_status && array['busy', 'dnd', 'invisible']::public.presence_status[] or true = any (p_set_custom) then
      insert into public.presence_choices (user_id)
        select o.user_id
        from unnest(p_kind, p_user, p_status, p_set_custom, p_custom) as o (kind, user_id, status, set_custom, custom)
        where o.kind = 'status'
          and (o.status in ('busy', 'dnd', 'invisible') or o.set_custom and o.custom is not null)
          and o.user_id not in (select c.user_id from public.presence_choices c where c.user_id = any (v_users))
        order by o.user_id
        on conflict (user_id) do nothing;
    end if;
    if exists (select from public.presence_choices c where c.user_id = any (v_users)) then
      update public.presence_choices c set
          chosen = case
            when o.status in ('busy', 'dnd', 'invisible') then o.status
            when o.status = 'offline' then c.chosen end,
          custom_status = case when o.set_custom then o.custom else c.custom_status end,
          custom_status_expires_at = case when o.set_custom then o.custom_expires else c.custom_status_expires_at end
        from (
          select o.user_id, o.status, o.set_custom, o.custom, case when o.custom is not null then o.custom_expires end as custom_expires
          from unnest(p_kind, p_user, p_status, p_set_custom, p_custom, p_custom_expires)
            as o (kind, user_id, status, set_custom, custom, custom_expires)
          where o.kind = 'status'
          order by o.user_id
        ) o
        where c.user_id = o.user_id and c.user_id = any (v_users)
          and (
            o.status <> 'offline' and c.chosen is distinct from case when o.status in ('busy', 'dnd', 'invisible') then o.status end
            or o.set_custom and (c.custom_status, c.custom_status_expires_at) is distinct from (o.custom, o.custom_expires)
          );
    end if;
  end if;

  -- Whoever names no device speaks for all live ones, or else for `default`: from here on each line names its device.
  -- Nobody is brought back by a heartbeat after signing off, nor by saying `offline` once more.
  if array_position(p_device, null) is not null then
    select
      array_agg(o.kind), array_agg(o.user_id), array_agg(coalesce(o.device_id, spoken_for.device_id)), array_agg(o.node),
      array_agg(o.age), array_agg(o.active), array_agg(o.status), array_agg(o.activity), array_agg(o.page)
    into p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page
    from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page)
      as o (kind, user_id, device_id, node, age, active, status, activity, page)
    left join lateral (
      select d.device_id from public.presence_devices d
      where o.device_id is null and d.user_id = o.user_id and d.live
      union all
      select 'default'
      where o.device_id is null
        and not exists (select from public.presence_devices d where d.user_id = o.user_id and d.live)
        and case o.kind
          when 'status' then o.status <> 'offline' or not exists (select from public.presence_devices d where d.user_id = o.user_id)
          when 'heartbeat' then not coalesce((
            select d.signed_off_at is not null from public.presence_devices d
            where d.user_id = o.user_id order by d.last_heartbeat_at desc limit 1), false)
          else true end
    ) spoken_for on true
    where coalesce(o.device_id, spoken_for.device_id) is not null;
  end if;

  -- Devices that are new, as if they had been here and offline. Most are not new, and a statement that inserts nothing
  -- would fire its triggers all the same.
  if exists (
    select from unnest(p_user, p_device) as o (user_id, device_id)
    where (o.user_id, o.device_id) not in (
      select d.user_id, d.device_id from public.presence_devices d where d.user_id = any (v_users))
  ) then
    insert into public.presence_devices (user_id, device_id, status)
      select o.user_id, o.device_id, 'offline'
      from unnest(p_kind, p_user, p_device) as o (kind, user_id, device_id)
      where o.kind in ('status', 'connect', 'heartbeat')
        and (o.user_id, o.device_id) not in (
          select d.user_id, d.device_id from public.presence_devices d where d.user_id = any (v_users))
      order by o.user_id, o.device_id
      on conflict (user_id, device_id) do nothing;
  end if;

  update public.presence_devices d set
      nodes = case o.kind
        when 'connect' then case when o.node = any (d.nodes) then d.nodes else d.nodes || o.node end
        when 'disconnect' then array_remove(d.nodes, o.node)
        else d.nodes end,
      status = case o.kind
        when 'status' then o.said
        when 'disconnect' then case when d.nodes = array[o.node] then 'offline' else d.status end
        when 'silent' then case when d.nodes = array[o.node] then 'offline' else d.status end
        when 'connect' then case
          when d.live or d.signed_off_at is not null and o.node = any (d.nodes) and not o.active then d.status else 'online' end
        else case when d.live or d.signed_off_at is not null then d.status else 'online' end
        end,
      signed_off_at = case
        when o.kind = 'status' then case when o.said = 'offline' then v_now end
        when o.kind = 'connect' and (o.active or not o.node = any (d.nodes)) then null
        else d.signed_off_at end,
      session_started_at = case
        when not d.live and (o.kind = 'status' and o.said <> 'offline' or o.kind in ('connect', 'heartbeat')
          and (d.signed_off_at is null or o.kind = 'connect' and (o.active or not o.node = any (d.nodes))))
        then v_now else d.session_started_at end,
      -- The last moment at which it was live: an offline device that stays so was not.
      last_heartbeat_at = case
        when o.kind in ('disconnect', 'silent') then
          case when d.live then greatest(d.last_heartbeat_at, v_now - o.age * interval '1 second') else d.last_heartbeat_at end
        when d.live or o.kind = 'status' and o.said <> 'offline' or o.kind in ('connect', 'heartbeat')
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
      select o.*, (case when o.status in ('offline', 'away') then o.status else 'online' end)::public.presence_status as said
      from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page)
        as o (kind, user_id, device_id, node, age, active, status, activity, page)
      order by o.user_id, o.device_id
    ) o
    where d.user_id = o.user_id and d.device_id = o.device_id and d.user_id = any (v_users);

  perform rollcall.refresh_faces(v_users);
  perform set_config('rollcall.batch', v_batch, true);

  return query select * from public.user_presence p where p.user_id = any (v_users) and p.face = 'trusted';
end
$$;
comment on function rollcall.write_presence is 'Applies a batch of presence writes; returns the trusted faces.';

-- For DBAs: sets a user's status as the user could.
-- Definer: writes devices and choices of any user; service_role only.
create function rollcall.set_status(p_user uuid, p_status public.presence_status, p_device text default null)
  returns setof public.user_presence
  language sql volatile security definer set search_path = ''
as $$
  select * from rollcall.write_presence(
    array['status'], array[p_user], array[p_device], array[null::uuid], array[0::double precision], array[true],
    array[p_status], array[false], array[null::text], array[null::timestamptz], array[null::text], array[null::text])
$$;
comment on function rollcall.set_status is 'Sets the status of a user, or of one device; returns the trusted face.';
grant execute on function rollcall.set_status to service_role;

-- Takes or renews a node's lease. False when it had none or it had lapsed: then others may have swept its devices, and
-- the node must say again which sockets it holds.
-- Definer: nodes are nobody's business but the server's.
create function rollcall.renew_lease(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.presence_nodes set renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + p_lease
    where id = p_node and lease_expires_at > clock_timestamp();
  if found then
    return true;
  end if;
  insert into public.presence_nodes (id, lease_expires_at) values (p_node, clock_timestamp() + p_lease)
    on conflict (id) do update set renewed_at = clock_timestamp(), lease_expires_at = excluded.lease_expires_at;
  return false;
end
$$;

-- Gives a lease up at a clean stop. Where other nodes live, the lease is cut short to the grace, so that devices that
-- come back to another node within it are never offline, and the others are swept. Where none does, the devices go
-- offline at once: at most as many as fit well into one statement; those of a bigger node are swept by whoever comes.
-- Definer: see renew_lease.
create function rollcall.release_lease(p_node uuid, p_grace interval default interval '0') returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_users uuid[];
begin
  if exists (select from public.presence_nodes n where n.id <> p_node and n.lease_expires_at > v_now) then
    update public.presence_nodes set lease_expires_at = least(lease_expires_at, v_now + p_grace) where id = p_node;
    return;
  end if;
  perform set_config('rollcall.batch', 'on', true);
  with held as (
    select d.user_id, d.device_id from public.presence_devices d
    where d.nodes <> '{}' and p_node = any (d.nodes)
    order by d.user_id, d.device_id
    limit 20000
    for update
  ),
  dropped as (
    update public.presence_devices d set
        nodes = array_remove(d.nodes, p_node),
        status = case when d.nodes = array[p_node] then 'offline' else d.status end,
        last_heartbeat_at = case when d.live then v_now else d.last_heartbeat_at end
      from held h
      where d.user_id = h.user_id and d.device_id = h.device_id
      returning d.user_id
  )
  select array_agg(d.user_id) into v_users from dropped d;
  -- For the sweep, who is left was live until now.
  update public.presence_nodes set renewed_at = v_now, lease_expires_at = v_now where id = p_node;
  if coalesce(cardinality(v_users), 0) < 20000 then
    delete from public.presence_nodes where id = p_node;
  end if;
  perform rollcall.refresh_faces(v_users);
  perform set_config('rollcall.batch', v_batch, true);
end
$$;

-- Ends what nobody keeps alive: devices of dead nodes, devices without heartbeats, idle devices, custom statuses and
-- typing past their time. Any node may run it, as may pg_cron or the Edge Function; while one runs, others skip.
-- It never waits for a row that somebody else has locked, and ends at most p_most of each: the next one goes on.
-- Returns how many of each it ended.
-- Definer: acts on everybody's rows; executable by service_role.
create function rollcall.sweep(
  p_idle_after interval default interval '300 seconds',
  p_silent_after interval default interval '25 seconds',
  p_typing boolean default true,
  p_most int default 10000
) returns table (nodes bigint, devices bigint, idle bigint, custom_statuses bigint, typing bigint)
  language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_living uuid[];
  v_users uuid[] := '{}';
  v_found uuid[];
begin
  nodes := 0; devices := 0; idle := 0; custom_statuses := 0; typing := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall.sweep', 0)) then
    return next;
    return;
  end if;
  perform set_config('rollcall.batch', 'on', true);

  -- Each user's row in user_last_seen is locked along, or somebody who keeps it would make the refresh below wait.
  with expired as (
    select c.user_id from public.presence_choices c
    join public.user_last_seen l on l.user_id = c.user_id
    where c.custom_status_expires_at <= v_now
    order by c.user_id limit p_most
    for update skip locked
  ),
  ended as (
    update public.presence_choices c set custom_status = null, custom_status_expires_at = null
    from expired e where c.user_id = e.user_id
    returning c.user_id
  )
  select array_agg(e.user_id), count(*) into v_found, custom_statuses from ended e;
  v_users := v_users || v_found;

  -- A node is dead when its lease has lapsed, or when there is no lease of that name at all. One that comes back to
  -- life meanwhile finds its lease lapsed, and says again what it holds.
  v_living := array(select n.id from public.presence_nodes n where n.lease_expires_at >= v_now);
  with lost as (
    select d.user_id, d.device_id from public.presence_devices d
    join public.user_last_seen l on l.user_id = d.user_id
    where d.nodes <> '{}' and not d.nodes <@ v_living
    order by d.user_id, d.device_id limit p_most
    for update skip locked
  ),
  dropped as (
    update public.presence_devices d set
        nodes = array(select held.node from unnest(d.nodes) as held (node) where held.node = any (v_living)),
        status = case when d.nodes && v_living then d.status else 'offline' end,
        last_heartbeat_at = case
          when d.live then greatest(d.last_heartbeat_at,
            (select max(n.renewed_at) from public.presence_nodes n where n.id = any (d.nodes) and n.id <> all (v_living)))
          else d.last_heartbeat_at end
      from lost l
      where d.user_id = l.user_id and d.device_id = l.device_id
      returning d.user_id
  )
  select array_agg(d.user_id), count(*) into v_found, devices from dropped d;
  v_users := v_users || v_found;
  -- A lease that lapsed only now has had no sweep yet.
  if devices < p_most then
    delete from public.presence_nodes n where n.lease_expires_at < v_now and n.id <> all (v_living)
      and not exists (select from public.presence_devices d where d.nodes <> '{}' and n.id = any (d.nodes));
    get diagnostics nodes = row_count;
  end if;

  with silent as (
    select d.user_id, d.device_id from public.presence_devices d
    join public.user_last_seen l on l.user_id = d.user_id
    where d.live and d.nodes = '{}' and d.last_heartbeat_at < v_now - p_silent_after
    order by d.user_id, d.device_id limit p_most
    for update skip locked
  ),
  dropped as (
    update public.presence_devices d set status = 'offline'
      from silent s where d.user_id = s.user_id and d.device_id = s.device_id
      returning d.user_id
  )
  select array_agg(d.user_id), devices + count(*) into v_found, devices from dropped d;
  v_users := v_users || v_found;

  with quiet as (
    select d.user_id, d.device_id from public.presence_devices d
    join public.user_last_seen l on l.user_id = d.user_id
    where d.live and d.idle_since is null and d.last_active_at < v_now - p_idle_after
    order by d.user_id, d.device_id limit p_most
    for update skip locked
  ),
  idled as (
    update public.presence_devices d set idle_since = date_trunc('milliseconds', d.last_active_at)
      from quiet q where d.user_id = q.user_id and d.device_id = q.device_id
      returning d.user_id
  )
  select array_agg(i.user_id), count(*) into v_found, idle from idled i;
  v_users := v_users || v_found;

  perform rollcall.refresh_faces(v_users);
  perform set_config('rollcall.batch', v_batch, true);

  if p_typing then
    with ended as (
      select t.conversation_id, t.user_id from public.typing_indicators t
      where t.expires_at <= v_now limit p_most
      for update skip locked
    )
    delete from public.typing_indicators t using ended e
      where t.conversation_id = e.conversation_id and t.user_id = e.user_id;
    get diagnostics typing = row_count;
  end if;

  delete from rollcall.visibility_log l where l.noted_at < v_now - interval '2 minutes';
  perform rollcall.tidy();
  return next;
end
$$;
comment on function rollcall.sweep is
  'Ends what nobody keeps alive: devices of dead nodes or without heartbeats, idle ones, expired statuses and typing.';
grant execute on function rollcall.sweep to service_role;

revoke execute on all functions in schema rollcall from public;
