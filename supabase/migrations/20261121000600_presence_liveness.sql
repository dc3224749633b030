-- Writing presence in batches, leases of nodes, and the sweep that ends what nobody keeps alive.
-- Invariant: whoever writes, the faces follow in the same transaction.

-- Applies a batch of presence writes, at most one a user, and returns each user's trusted face as it is then.
-- An activity or page that is null stays as it is; an empty one is cleared.
-- What each kind does to a device:
--   status      what the client says; without a device id it speaks for all live devices, or for `default`
--   connect     a socket opened on p_node; brings an offline device back
--   disconnect  the last socket on p_node closed p_age seconds ago; offline unless another node holds one
--   silent      a socket on p_node says nothing: offline, but still connected
--   heartbeat   alive; with p_active also looked at
-- Definer: the server writes for many users in one statement; it has checked that each writes for itself.
create function rollcall.write_presence(
  p_kind text[], p_user uuid[], p_device text[], p_node uuid[], p_age double precision[], p_active boolean[],
  p_status public.presence_status[], p_set_custom boolean[], p_custom text[], p_custom_expires timestamptz[],
  p_activity text[], p_page text[]
) returns setof public.user_presence
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  perform set_config('rollcall.batch', 'on', true);

  with
  op as (
    select * from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page)
      as o (kind, user_id, device_id, node, age, active, status, activity, page)
  ),
  target as (
    select o.*, d.device_id as target_id
    from op o
    join public.presence_devices d on d.user_id = o.user_id
      and (d.device_id = o.device_id or (o.device_id is null and d.status <> 'offline'))
  ),
  changed as (
    update public.presence_devices d set
      nodes = case o.kind
        when 'connect' then array_append(array_remove(d.nodes, o.node), o.node)
        when 'disconnect' then array_remove(d.nodes, o.node)
        else d.nodes end,
      status = case o.kind
        when 'status' then case when o.status in ('offline', 'away') then o.status else 'online' end
        when 'disconnect' then case when array_remove(d.nodes, o.node) = '{}' and o.node = any (d.nodes) then 'offline' else d.status end
        when 'silent' then case when d.nodes <@ array[o.node] then 'offline' else d.status end
        -- A connection, or a heartbeat of a device that was given up, brings it back; not one that signed off.
        else case when d.status = 'offline' and (o.kind = 'connect' or d.signed_off_at is null) then 'online' else d.status end
        end,
      signed_off_at = case
        when o.kind = 'status' and o.status = 'offline' then v_now
        when o.kind in ('status', 'connect') then null
        else d.signed_off_at end,
      session_started_at = case when o.kind in ('status', 'connect') and d.status = 'offline' then v_now else d.session_started_at end,
      last_heartbeat_at = case
        when o.kind in ('disconnect', 'silent') then
          case when d.status <> 'offline' then greatest(d.last_heartbeat_at, v_now - o.age * interval '1 second') else d.last_heartbeat_at end
        else v_now end,
      last_active_at = case
        when o.kind in ('status', 'connect') or (o.kind = 'heartbeat' and o.active) then v_now else d.last_active_at end,
      idle_since = case
        when o.kind in ('status', 'connect') or (o.kind = 'heartbeat' and o.active) then null else d.idle_since end,
      activity = case when o.kind = 'status' and o.activity is not null then nullif(o.activity, '') else d.activity end,
      current_page = case when o.kind = 'status' and o.page is not null then nullif(o.page, '') else d.current_page end
    from target o
    where d.user_id = o.user_id and d.device_id = o.target_id
    returning d.user_id
  )
  insert into public.presence_devices as d
    (user_id, device_id, status, nodes, signed_off_at, activity, current_page)
    select
      o.user_id, coalesce(o.device_id, 'default'),
      (case when o.status in ('offline', 'away') then o.status else 'online' end)::public.presence_status,
      case when o.kind = 'connect' then array[o.node] else '{}' end,
      case when o.status = 'offline' then v_now end,
      nullif(o.activity, ''), nullif(o.page, '')
    from op o
    where o.kind in ('status', 'connect', 'heartbeat')
      and not exists (select from target t where t.user_id = o.user_id)
    order by 1, 2
    -- Reached when `default` is there but offline, or another node was quicker.
    on conflict (user_id, device_id) do update set
      status = excluded.status,
      nodes = case when excluded.nodes = '{}' or d.nodes @> excluded.nodes then d.nodes else d.nodes || excluded.nodes end,
      signed_off_at = excluded.signed_off_at,
      session_started_at = case when d.status = 'offline' then v_now else d.session_started_at end,
      last_heartbeat_at = v_now, last_active_at = v_now, idle_since = null,
      activity = coalesce(excluded.activity, d.activity), current_page = coalesce(excluded.current_page, d.current_page);

  -- The choice is touched only where it changes. Going offline keeps it: busy holds until changed.
  with op as (
    select
      o.user_id, o.set_custom,
      case when o.status in ('busy', 'dnd', 'invisible') then o.status when o.status = 'offline' then c.chosen end as chosen,
      case when o.set_custom then o.custom else c.custom_status end as custom_status,
      case when o.set_custom then o.custom_expires else c.custom_status_expires_at end as custom_status_expires_at,
      c as before
    from unnest(p_kind, p_user, p_status, p_set_custom, p_custom, p_custom_expires)
      as o (kind, user_id, status, set_custom, custom, custom_expires)
    left join public.presence_choices c using (user_id)
    where o.kind = 'status'
  )
  insert into public.presence_choices as c (user_id, chosen, custom_status, custom_status_expires_at)
    select o.user_id, o.chosen, o.custom_status, o.custom_status_expires_at
    from op o
    where ((o.before).chosen, (o.before).custom_status, (o.before).custom_status_expires_at)
      is distinct from (o.chosen, o.custom_status, o.custom_status_expires_at)
    order by o.user_id
    on conflict (user_id) do update set
      chosen = excluded.chosen,
      custom_status = excluded.custom_status,
      custom_status_expires_at = excluded.custom_status_expires_at;

  perform set_config('rollcall.batch', 'off', true);
  perform rollcall.refresh_faces(p_user);

  return query select * from public.user_presence p where p.user_id = any (p_user) and p.face = 'trusted';
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

-- Takes or renews a node's lease. False when there was none: then others may have swept its devices, and the node
-- must say again which sockets it holds.
-- Definer: nodes are nobody's business but the server's.
create function rollcall.renew_lease(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.presence_nodes set renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + p_lease
    where id = p_node;
  if found then
    return true;
  end if;
  insert into public.presence_nodes (id, lease_expires_at) values (p_node, clock_timestamp() + p_lease)
    on conflict (id) do update set renewed_at = clock_timestamp(), lease_expires_at = excluded.lease_expires_at;
  return false;
end
$$;

-- Gives a lease up at a clean stop: its devices go offline at once, unless another node holds them.
-- Definer: see renew_lease.
create function rollcall.release_lease(p_node uuid) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.presence_nodes where id = p_node;
  update public.presence_devices d set
      nodes = array_remove(d.nodes, p_node),
      status = case when array_remove(d.nodes, p_node) = '{}' then 'offline' else d.status end,
      last_heartbeat_at = case when d.status <> 'offline' then clock_timestamp() else d.last_heartbeat_at end
    where d.nodes <> '{}' and p_node = any (d.nodes);
end
$$;

-- Ends what nobody keeps alive: devices of dead nodes, devices without heartbeats, idle devices, custom statuses and
-- typing past their time. Any node may run it, as may pg_cron or the Edge Function; while one runs, others skip.
-- Returns how many of each it ended.
-- Definer: acts on everybody's rows; executable by service_role.
create function rollcall.sweep(
  p_idle_after interval default interval '300 seconds',
  p_silent_after interval default interval '25 seconds',
  p_typing boolean default true
) returns table (nodes bigint, devices bigint, idle bigint, custom_statuses bigint, typing bigint)
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_dead uuid[];
  v_count bigint;
begin
  nodes := 0; devices := 0; idle := 0; custom_statuses := 0; typing := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall.sweep', 0)) then
    return next;
    return;
  end if;

  -- A node is dead when its lease has lapsed, or when there is no lease of that name at all.
  select array(select n.id from public.presence_nodes n where n.lease_expires_at < v_now for update skip locked) into v_dead;
  nodes := cardinality(v_dead);
  with lost as (
    select d.user_id, d.device_id, kept.nodes, died.at
    from public.presence_devices d
    cross join lateral (
      select coalesce(array_agg(held.node), '{}') as nodes
      from unnest(d.nodes) as held (node)
      join public.presence_nodes n on n.id = held.node and n.id <> all (v_dead)
    ) kept
    cross join lateral (
      select max(n.renewed_at) as at from public.presence_nodes n where n.id = any (d.nodes) and n.id = any (v_dead)
    ) died
    where d.nodes <> '{}' and cardinality(kept.nodes) < cardinality(d.nodes)
    order by d.user_id, d.device_id
    for update of d
  )
  update public.presence_devices d set
      nodes = l.nodes,
      status = case when l.nodes = '{}' then 'offline' else d.status end,
      last_heartbeat_at = greatest(d.last_heartbeat_at, l.at)
    from lost l
    where d.user_id = l.user_id and d.device_id = l.device_id;
  get diagnostics devices = row_count;
  delete from public.presence_nodes n where n.id = any (v_dead);

  with silent as (
    select d.user_id, d.device_id from public.presence_devices d
    where d.status <> 'offline' and d.nodes = '{}' and d.last_heartbeat_at < v_now - p_silent_after
    order by d.user_id, d.device_id
    for update skip locked
  )
  update public.presence_devices d set status = 'offline'
    from silent s where d.user_id = s.user_id and d.device_id = s.device_id;
  get diagnostics v_count = row_count;
  devices := devices + v_count;

  with quiet as (
    select d.user_id, d.device_id from public.presence_devices d
    where d.status <> 'offline' and d.idle_since is null and d.last_active_at < v_now - p_idle_after
    order by d.user_id, d.device_id
    for update skip locked
  )
  update public.presence_devices d set idle_since = date_trunc('milliseconds', d.last_active_at)
    from quiet q where d.user_id = q.user_id and d.device_id = q.device_id;
  get diagnostics idle = row_count;

  with expired as (
    select c.user_id from public.presence_choices c
    where c.custom_status_expires_at <= v_now
    order by c.user_id
    for update skip locked
  )
  update public.presence_choices c set custom_status = null, custom_status_expires_at = null
    from expired e where c.user_id = e.user_id;
  get diagnostics custom_statuses = row_count;

  if p_typing then
    delete from public.typing_indicators t where t.expires_at <= v_now;
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
