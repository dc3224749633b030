-- Managing presence: what is kept on a person (to export and to erase), how long it is kept, signing devices off, and
-- messages that go straight to sockets.
-- Invariant: every column that names a user is in rollcall.personal_data, which says what happens to it.

-- Settings know when they changed last. Invoker: touches only the row at hand.
create function rollcall.stamp_settings() returns trigger
  language plpgsql security invoker set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
create trigger stamp_settings before update on public.presence_settings
  for each row execute function rollcall.stamp_settings();

-- To sockets -------------------------------------------------------------------------------------------------------

-- What nodes are to do with the sockets of some users. NOTIFY carries the id, the content stays here for two minutes.
-- Unlogged: after a crash there are no sockets to tell.
create unlogged table rollcall.outbox (
  id bigint generated always as identity primary key,
  kind text not null constraint outbox_kind_is_known check (kind in ('message', 'sign_off')),
  recipients uuid[] not null,
  body json not null,
  posted_at timestamptz not null default now()
);
comment on table rollcall.outbox is
  'Messages for sockets, and devices that were signed off. Each node reads them once; kept for two minutes.';
-- No policies: only the server reads it.
alter table rollcall.outbox enable row level security;

-- Definer: appends to a table that nobody else may write; called by the functions below only.
create function rollcall.post(p_kind text, p_recipients uuid[], p_body json) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id bigint;
begin
  insert into rollcall.outbox (kind, recipients, body) values (p_kind, p_recipients, p_body) returning id into v_id;
  perform pg_notify('rollcall_broadcast', v_id::text);
end
$$;

-- Sends an event to every open socket of some users, at most once: whoever is not connected at the moment misses it.
-- Returns how many of them are connected.
-- Definer: reads devices and nodes of any user; service_role only.
create function rollcall.broadcast(p_category text, p_event text, p_recipients uuid[], p_payload json)
  returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_connected bigint;
begin
  perform rollcall.post('message', array(select distinct r from unnest(p_recipients) r),
    json_build_object('category', p_category, 'event', p_event, 'payload', p_payload));
  select count(distinct d.user_id) into v_connected
  from public.presence_devices d
  where d.user_id = any (p_recipients) and rollcall.any_node_lives(d.nodes);
  return v_connected;
end
$$;
comment on function rollcall.broadcast is
  'Sends an event to every open socket of some users, at most once; returns how many of them are connected.';
grant execute on function rollcall.broadcast to service_role;

-- Whether one of these nodes runs.
-- Definer: nodes are nobody's business but the server's, and a random id of one tells nothing.
create function rollcall.any_node_lives(p_nodes uuid[]) returns boolean
  language sql stable security definer set search_path = ''
as $$
  select exists (
    select from public.presence_nodes n where n.id = any (p_nodes) and n.lease_expires_at > clock_timestamp()
  )
$$;
comment on function rollcall.any_node_lives is 'Whether one of these nodes holds a lease.';
grant execute on function rollcall.any_node_lives to authenticated, service_role;

-- Signs a device off: offline at once, its sockets closed on every node, and no late heartbeat brings it back; only a
-- new connection or status does. False when the user has no such device.
-- Definer: sets columns that are the server's; service_role only.
create function rollcall.sign_off(p_user uuid, p_device text) returns boolean
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  update public.presence_devices d set
      -- A connected device was live until now; one on heartbeats, until the last.
      last_heartbeat_at = case when d.status <> 'offline' and d.nodes <> '{}' then v_now else d.last_heartbeat_at end,
      status = 'offline', nodes = '{}', signed_off_at = v_now
    where d.user_id = p_user and d.device_id = p_device;
  if not found then
    return false;
  end if;
  perform rollcall.post('sign_off', array[p_user], json_build_object('device_id', p_device));
  return true;
end
$$;
comment on function rollcall.sign_off is 'Signs a device off and closes its sockets; false when there is none such.';
grant execute on function rollcall.sign_off to service_role;

-- The same for one's own device. Definer: see sign_off; acts for auth.uid() only.
create function rollcall.sign_off_mine(p_device text) returns boolean
  language sql volatile security definer set search_path = ''
as $$ select rollcall.sign_off(auth.uid(), p_device) $$;
comment on function rollcall.sign_off_mine is 'Signs one of the caller''s devices off and closes its sockets.';
grant execute on function rollcall.sign_off_mine to authenticated, service_role;

-- What is kept on a person -----------------------------------------------------------------------------------------

create table rollcall.personal_data (
  relation regclass not null,
  column_name text not null,
  exported boolean not null,
  erase_order int,
  reason text,
  constraint personal_data_pkey primary key (relation, column_name),
  constraint personal_data_gives_a_reason check ((exported and erase_order is not null) or reason is not null)
);
comment on table rollcall.personal_data is
  'Every column that names a user: whether its rows are in that user''s export, and when in an erasure they go. '
  'Whoever adds a table with such a column adds a row here.';
comment on column rollcall.personal_data.erase_order is 'Lower goes first; null stays.';
comment on column rollcall.personal_data.reason is 'Why the rows are not exported, or stay.';
alter table rollcall.personal_data enable row level security;
create policy "anyone may know what is kept" on rollcall.personal_data for select to authenticated using (true);
grant select on rollcall.personal_data to authenticated, service_role;

insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  -- Devices before last seen: the order in which every writer locks.
  ('public.presence_devices', 'user_id', true, 10, null),
  ('public.presence_choices', 'user_id', true, 20, null),
  ('public.presence_settings', 'user_id', true, 30, null),
  ('public.presence_visibility_list', 'user_id', true, 40, null),
  ('public.typing_indicators', 'user_id', true, 50, null),
  ('public.user_last_seen', 'user_id', true, 60, null),
  ('public.user_presence', 'user_id', true, 70, null),
  ('public.contacts', 'requester_id', true, null, 'a relation of two people; either ends it'),
  ('public.contacts', 'addressee_id', true, null, 'a relation of two people; either ends it'),
  ('public.blocks', 'blocker_id', true, null, 'must outlast the presence, or whoever was blocked would see the next one'),
  ('public.blocks', 'blocked_id', false, null, 'another user''s choice, which the blocked one must not learn of'),
  ('public.presence_visibility_list', 'viewer_id', false, null, 'another user''s choice, which the listed one must not learn of'),
  ('public.teams', 'owner_id', true, null, 'a team is its members'' too'),
  ('public.team_members', 'user_id', true, null, 'membership, not presence; a member leaves by deleting the row'),
  ('public.conversations', 'created_by', true, null, 'a conversation is its participants'' too'),
  ('public.conversation_participants', 'user_id', true, null, 'membership, not presence; a participant leaves by itself'),
  ('rollcall.visibility_log', 'viewers', false, null, 'bare ids, gone after two minutes'),
  ('rollcall.visibility_log', 'subjects', false, null, 'bare ids, gone after two minutes'),
  ('rollcall.outbox', 'recipients', false, null, 'gone after two minutes');

-- Everything that is kept on the caller's presence, table by table, as far as row-level security shows it to them.
-- Invoker: must not show what the caller may not see, such as others' lists. The names come from personal_data, which
-- migrations alone write.
create function rollcall.export_mine() returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_table record;
  v_rows jsonb;
  v_all jsonb := '{}';
begin
  for v_table in
    select d.relation, c.relname as name, string_agg(format('t.%I = $1', d.column_name), ' or ') as mine
    from rollcall.personal_data d
    join pg_catalog.pg_class c on c.oid = d.relation
    where d.exported
    group by d.relation, c.relname
    order by c.relname
  loop
    execute format('select coalesce(jsonb_agg(to_jsonb(t)), ''[]'') from %s t where %s', v_table.relation, v_table.mine)
      into v_rows using v_me;
    v_all := v_all || jsonb_build_object(v_table.name, v_rows);
  end loop;
  return v_all;
end
$$;
comment on function rollcall.export_mine is 'Everything that is kept on the caller''s presence, table by table.';
grant execute on function rollcall.export_mine to authenticated, service_role;

-- Erases what is kept on a user's presence and closes the user's sockets: afterwards the user reads as never seen.
-- Returns how many rows went, by table.
-- Definer: deletes what the user may only read; service_role only. The names come from personal_data.
create function rollcall.forget(p_user uuid) returns jsonb
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_column record;
  v_count bigint;
  v_all jsonb := '{}';
begin
  perform set_config('rollcall.batch', 'on', true);
  for v_column in
    select d.relation, c.relname as name, d.column_name
    from rollcall.personal_data d
    join pg_catalog.pg_class c on c.oid = d.relation
    where d.erase_order is not null
    order by d.erase_order
  loop
    execute format('delete from %s t where t.%I = $1', v_column.relation, v_column.column_name) using p_user;
    get diagnostics v_count = row_count;
    v_all := v_all || jsonb_build_object(v_column.name, coalesce((v_all ->> v_column.name)::bigint, 0) + v_count);
  end loop;
  perform set_config('rollcall.batch', 'off', true);
  -- Should the user have come back in between, then with a face again.
  perform rollcall.refresh_faces(array[p_user]);
  perform rollcall.post('sign_off', array[p_user], '{}');
  return v_all;
end
$$;
comment on function rollcall.forget is 'Erases what is kept on a user''s presence; returns how many rows went, by table.';
grant execute on function rollcall.forget to service_role;

-- The same for oneself. Definer: see forget; acts for auth.uid() only.
create function rollcall.forget_me() returns jsonb
  language sql volatile security definer set search_path = ''
as $$ select rollcall.forget(auth.uid()) $$;
comment on function rollcall.forget_me is 'Erases what is kept on the caller''s presence.';
grant execute on function rollcall.forget_me to authenticated, service_role;

-- How long it is kept ----------------------------------------------------------------------------------------------

create table rollcall.retention (
  key text primary key constraint retention_key_is_known check (key in ('offline_devices', 'last_seen')),
  keep interval constraint retention_keep_is_positive check (keep > interval '0'),
  applied_at timestamptz
);
comment on table rollcall.retention is
  'How long presence is kept: devices that stay offline, and when somebody was last seen. Null keeps for ever. '
  'rollcall.sweep() applies it once an hour.';
-- No policies: the operator's.
alter table rollcall.retention enable row level security;
grant select, update (keep) on rollcall.retention to service_role;
insert into rollcall.retention (key, keep) values ('offline_devices', interval '90 days'), ('last_seen', interval '1 year');

-- Deletes what is past its time, at most so many of each; returns how many. Called by rollcall.sweep, under its lock.
-- Definer: acts on everybody's rows; not for API roles.
create function rollcall.tidy(p_most int default 10000) returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_rule record;
  v_users uuid[];
  v_count bigint;
  v_all bigint := 0;
begin
  delete from rollcall.outbox o where o.posted_at < now() - interval '2 minutes';

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
comment on function rollcall.tidy is 'Deletes what is past its time of retention, and what sockets have been told.';

-- Grants -----------------------------------------------------------------------------------------------------------
-- Default privileges of one schema cannot take away what PUBLIC has by default on every function, so it is said here,
-- for all that there are: each role calls what it was granted and nothing else. Triggers need no grant to fire.
revoke execute on all functions in schema rollcall from public;
