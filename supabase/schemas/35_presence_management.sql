-- Module: presence
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
