-- How often a user may say a status without the server: as often as over REST and sockets, and wherever it is said.
-- Invariant: what is refused changes nothing and does not count, and neither does a repeat of what holds.

create table rollcall.limits (
  key text primary key constraint limits_key_is_known check (key = 'status_updates'),
  per_minute int not null constraint limits_per_minute_is_not_negative check (per_minute >= 0)
);
comment on table rollcall.limits is
  'How often a minute, and at once, each user may do what users do by function; 0 for no limit. What comes over REST and '
  'sockets is counted by the server, with limits of its own.';
alter table rollcall.limits enable row level security;
grant select, update (per_minute) on rollcall.limits to service_role;
insert into rollcall.limits (key, per_minute) values ('status_updates', 10);

-- Unlogged: after a crash everybody starts anew.
create unlogged table rollcall.status_allowances (
  user_id uuid primary key,
  whole_at timestamptz not null
);
comment on table rollcall.status_allowances is 'When a user''s allowance of status updates is whole again; one that is, has no row for long.';
alter table rollcall.status_allowances enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.status_allowances', 'user_id', false, null, 'a bare time, gone within minutes; erasing it would lift the limit');

-- Counts a status update of the caller, or refuses it with SQLSTATE PT429, which PostgREST answers with 429. The detail
-- is JSON: the limit, and the milliseconds until one more is allowed and until the allowance is whole.
-- Definer: users must not reset their own count; acts for auth.uid() only.
create function rollcall.spend_status_update() returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_limit constant int := (select nullif(l.per_minute, 0) from rollcall.limits l where l.key = 'status_updates');
  v_step constant interval := interval '1 minute' / v_limit;
  v_whole timestamptz;
  v_wait bigint;
begin
  if v_me is null then
    raise exception 'there is no user in the claims' using errcode = 'insufficient_privilege';
  end if;
  if v_limit is null then
    return;
  end if;
  insert into rollcall.status_allowances as a (user_id, whole_at) values (v_me, clock_timestamp() + v_step)
    on conflict (user_id) do update set whole_at = greatest(a.whole_at, clock_timestamp()) + v_step
      where greatest(a.whole_at, clock_timestamp()) + v_step <= clock_timestamp() + interval '1 minute';
  if found then
    return;
  end if;
  select a.whole_at into v_whole from rollcall.status_allowances a where a.user_id = v_me;
  v_wait := greatest(1, ceil(extract(epoch from v_whole + v_step - clock_timestamp() - interval '1 minute') * 1000));
  raise exception 'too many status updates, try again in % s', ceil(v_wait / 1000.0) using errcode = 'PT429',
    detail = json_build_object('limit', v_limit, 'retry_after_ms', v_wait,
      'reset_ms', ceil(extract(epoch from v_whole - clock_timestamp()) * 1000))::text;
end
$$;
comment on function rollcall.spend_status_update is 'Counts a status update of the caller, or refuses it with PT429.';
grant execute on function rollcall.spend_status_update to authenticated;

-- Sets the caller's status on a device, and returns the caller's own face. A custom status counts with p_set_custom only;
-- an activity or page that is null stays as it is, and an empty one is cleared.
-- A repeat of what holds and was said a moment ago changes nothing; anything else is counted, and too much is refused.
-- Invoker: writes the caller's rows, which policies and grants judge as they would judge the same in SQL.
create or replace function rollcall.set_my_status(
  p_status public.presence_status, p_device text default 'default', p_set_custom boolean default false,
  p_custom text default null, p_custom_expires timestamptz default null, p_activity text default null, p_page text default null
) returns setof public.user_presence
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_choice constant public.presence_status := case when p_status in ('busy', 'dnd', 'invisible') then p_status end;
begin
  if v_me is null then
    raise exception 'there is no user in the claims' using errcode = 'insufficient_privilege';
  end if;
  if exists (
    select from public.presence_devices d
    left join public.presence_choices c on c.user_id = d.user_id
    where d.user_id = v_me and d.device_id = p_device
      and d.status = case when p_status in ('away', 'offline') then p_status else 'online' end
      and case when p_status = 'offline' then d.signed_off_at else d.last_active_at end > clock_timestamp() - interval '5 seconds'
      and (p_status = 'offline' or d.live and d.idle_since is null and c.chosen is not distinct from v_choice)
      and (not p_set_custom or (c.custom_status, c.custom_status_expires_at)
        is not distinct from (p_custom, case when p_custom is not null then p_custom_expires end))
      and (p_activity is null or d.activity is not distinct from nullif(p_activity, ''))
      and (p_page is null or d.current_page is not distinct from nullif(p_page, ''))
  ) then
    return query select p.* from public.user_presence p where p.user_id = v_me and p.face = 'trusted';
    return;
  end if;
  perform rollcall.spend_status_update();
  -- The choice first, as everybody locks; going offline keeps it.
  if v_choice is not null or p_set_custom or exists (select from public.presence_choices c where c.user_id = v_me) then
    insert into public.presence_choices as c (user_id, chosen, custom_status, custom_status_expires_at)
      values (v_me, v_choice, case when p_set_custom then p_custom end,
        case when p_set_custom and p_custom is not null then p_custom_expires end)
      on conflict (user_id) do update set
        chosen = case when p_status = 'offline' then c.chosen else excluded.chosen end,
        custom_status = case when p_set_custom then excluded.custom_status else c.custom_status end,
        custom_status_expires_at = case when p_set_custom then excluded.custom_status_expires_at else c.custom_status_expires_at end;
  end if;
  if p_status = 'offline' then
    update public.presence_devices d set status = 'offline' where d.user_id = v_me and d.device_id = p_device;
  else
    insert into public.presence_devices as d (user_id, device_id, status, activity, current_page)
      values (v_me, p_device, case when p_status = 'away' then 'away' else 'online' end::public.presence_status,
        nullif(p_activity, ''), nullif(p_page, ''))
      on conflict (user_id, device_id) do update set
        status = excluded.status,
        activity = case when p_activity is null then d.activity else excluded.activity end,
        current_page = case when p_page is null then d.current_page else excluded.current_page end;
    perform rollcall.heartbeat_mine(p_device, true);
  end if;
  return query select p.* from public.user_presence p where p.user_id = v_me and p.face = 'trusted';
end
$$;

-- Deletes what is past its time, at most so many of each; returns how many. Called by rollcall.sweep, under its lock.
-- As before, and allowances that are whole again. Definer: acts on everybody's rows; not for API roles.
create or replace function rollcall.tidy(p_most int default 10000) returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_rule record;
  v_users uuid[];
  v_count bigint;
  v_all bigint := 0;
begin
  delete from rollcall.outbox o where o.posted_at < now() - interval '2 minutes';
  delete from rollcall.status_allowances a where a.whole_at < now();

  for v_rule in
    select r.key, clock_timestamp() - r.keep as before from rollcall.retention r
    where r.keep is not null and (r.applied_at is null or r.applied_at < now() - interval '1 hour')
    -- Devices first, because last_seen looks for users without any.
    order by r.key desc
  loop
    if v_rule.key = 'offline_devices' then
      with old as (
        select d.user_id, d.device_id from public.presence_devices d
        where d.status = 'offline' and d.last_heartbeat_at < v_rule.before
        order by d.user_id, d.device_id
        limit p_most for update skip locked
      )
      delete from public.presence_devices d using old o where d.user_id = o.user_id and d.device_id = o.device_id;
      get diagnostics v_count = row_count;
    else
      select array(
        select l.user_id from public.user_last_seen l
        where l.last_seen < v_rule.before
          and not exists (select from public.presence_devices d where d.user_id = l.user_id and d.status <> 'offline')
        limit p_most
      ) into v_users;
      v_count := cardinality(v_users);
      if v_count > 0 then
        perform set_config('rollcall.batch', 'on', true);
        -- A device remembers as well when it was last live.
        delete from public.presence_devices d where d.user_id = any (v_users) and d.status = 'offline';
        update public.presence_choices c set last_seen_when_hidden = null where c.user_id = any (v_users);
        update public.user_last_seen l set last_seen = null where l.user_id = any (v_users);
        perform set_config('rollcall.batch', 'off', true);
        perform rollcall.refresh_faces(v_users);
      end if;
    end if;
    v_all := v_all + v_count;
    -- Where more is left, the next sweep goes on.
    if v_count < p_most then
      update rollcall.retention r set applied_at = now() where r.key = v_rule.key;
    end if;
  end loop;
  return v_all;
end
$$;

revoke execute on all functions in schema rollcall from public;
