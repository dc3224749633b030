-- Who may use a private channel, as the server asks it, and which tables the answer depends on.
begin;
select plan(34);
select tests.as_owner();

-- The answer of one caller in one line: reads broadcast, presence; writes broadcast, presence. What a probe writes is
-- taken back like the server does it.
create function pg_temp.may(p_role text, p_sub uuid, p_topic text, p_headers text default '{}') returns text language plpgsql as $$
declare v text;
begin
  begin
    select coalesce(p.error, concat_ws(' ', p.broadcast_read::int, p.presence_read::int, p.broadcast_write::int, p.presence_write::int))
      into v
      from rollcall_internal.probe_channels(array[p_topic], array[1], array[p_role], array[p_sub::text],
        array[json_build_object('sub', p_sub, 'role', p_role)::text], array[p_headers], array[true], array[true]) p;
    raise exception 'taken back' using errcode = 'ZZ999';
  exception when sqlstate 'ZZ999' then
    return v;
  end;
end $$;

select is(pg_temp.may('authenticated', tests.u(1), 'room:1'), '0 0 0 0', 'without a policy nobody may do anything');
select is(pg_temp.may('service_role', null, 'room:1'), '1 1 1 1', 'but service_role may do everything');
select is_empty('select from realtime.messages', 'and nothing of it stays');

create table public.members (user_id uuid, room text, writes boolean default true);
alter table public.members enable row level security;
grant select on public.members to authenticated;
create policy "own" on public.members for select to authenticated using (user_id = (select auth.uid()));
create policy "members read" on realtime.messages for select to authenticated
  using (extension in ('broadcast', 'presence')
    and exists (select from public.members m where m.user_id = (select auth.uid()) and m.room = (select realtime.topic())));
create policy "members write" on realtime.messages for insert to authenticated
  with check (extension = 'broadcast'
    and exists (select from public.members m where m.user_id = (select auth.uid()) and m.room = realtime.topic() and m.writes));
insert into public.members values (tests.u(1), 'room:1', true), (tests.u(2), 'room:1', false);

select is(pg_temp.may('authenticated', tests.u(1), 'room:1'), '1 1 1 0', 'extensions and commands are asked apart');
select is(pg_temp.may('authenticated', tests.u(2), 'room:1'), '1 1 0 0', 'another member may only read');
select is(pg_temp.may('authenticated', tests.u(1), 'room:2'), '0 0 0 0', 'another room is closed');
select is(pg_temp.may('authenticated', tests.u(3), 'room:1'), '0 0 0 0', 'a stranger may do nothing');
select is(pg_temp.may('anon', null, 'room:1'), '0 0 0 0', 'nor may anon');
select is(pg_temp.may('nosuch', tests.u(1), 'room:1'), '22023', 'a role that there is not is that caller''s error');
select is(pg_temp.may('none', tests.u(1), 'room:1'), '22023', '`none` is not the server''s own role');
select is(pg_temp.may('', tests.u(1), 'room:1'), '22023', 'nor is nothing');
select is(current_setting('role'), (select nspowner::regrole::text from pg_namespace where nspname = 'rollcall'), 'we are ourselves again');

create policy "by row" on realtime.messages for select to authenticated using (topic = 'row' and not private and inserted_at <= clock_timestamp() at time zone 'utc');
select is(pg_temp.may('authenticated', tests.u(1), 'row'), '1 1 0 0', 'policies may look at the row');
create policy "by header" on realtime.messages for select to authenticated
  using (current_setting('request.headers', true)::jsonb ->> 'x-room' = realtime.topic());
select is(pg_temp.may('authenticated', tests.u(1), 'head', '{"x-room": "head"}'), '1 1 0 0', 'and at headers');
select is(pg_temp.may('authenticated', tests.u(1), 'head'), '0 0 0 0', 'of the caller''s own request');
create policy "by old claims" on realtime.messages for select to authenticated
  using (realtime.topic() = 'claim:' || current_setting('request.jwt.claim.sub', true) || current_setting('request.jwt.claim.role', true));
select is(pg_temp.may('authenticated', tests.u(1), 'claim:' || tests.u(1) || 'authenticated'), '1 1 0 0', 'the older settings are there');

create policy "broken" on realtime.messages for select to authenticated using (realtime.topic() <> 'broken' or 1 / (length(topic) - 6) = 1);
select is(pg_temp.may('authenticated', tests.u(1), 'broken'), '22012', 'a policy that raises is that caller''s error');
drop policy "broken" on realtime.messages;
create policy "broken" on realtime.messages for select to authenticated using (case when realtime.topic() = 'broken' then 1 / (length(topic) - 6) = 1 else false end);
select results_eq($$
    select caller, coalesce(error, concat_ws(' ', broadcast_read::int, presence_read::int, broadcast_write::int))
    from rollcall_internal.probe_channels(array['room:1', 'broken'], array[1, 2, 1, 1], array['authenticated', 'authenticated', 'nosuch', 'authenticated'],
      array[tests.u(1)::text, tests.u(1)::text, null, tests.u(2)::text],
      array(select json_build_object('sub', u)::text from unnest(array[tests.u(1), tests.u(1), null, tests.u(2)]) u),
      array_fill('{}'::text, array[4]), array[true, true, true, false], array[false, true, true, true])
  $$, $$ values (1, '1 1'), (2, '22012'), (3, '22023'), (4, '0') $$, 'in a batch each has an answer of its own');

-- The probe ends as the login role, which is not the owner here.
select tests.as_owner();
-- Restrictive policies and the whole of row-level security count as they do for a select.
create policy "not on sundays" on realtime.messages as restrictive for select to authenticated using (extension <> 'presence');
select is(pg_temp.may('authenticated', tests.u(1), 'room:1'), '1 0 1 0', 'restrictive policies restrict');
revoke insert on realtime.messages from authenticated;
select is(pg_temp.may('authenticated', tests.u(1), 'room:1'), '1 0 0 0', 'so do grants');

-- What an answer depends on ------------------------------------------------------------------------------------------
create function pg_temp.sources() returns text language sql as $$ select string_agg(s::text, ' ' order by s::text) from rollcall.authorization_sources() s $$;
select is(pg_temp.sources(), 'members', 'the table that a policy mentions');
select triggers_are('public', 'members', array['rollcall_authorization_insert', 'rollcall_authorization_update', 'rollcall_authorization_delete', 'rollcall_authorization_truncate'],
  'is watched as soon as it is mentioned');
create table public.bans (user_id uuid);
create function public.banned() returns boolean language sql stable security definer as $$ select exists (select from public.bans where user_id = auth.uid()) $$;
create policy "not banned" on realtime.messages as restrictive for select to authenticated using (not public.banned());
select is(pg_temp.sources(), 'bans members', 'the table that a function of a policy reads');
select triggers_are('public', 'bans', array['rollcall_authorization_insert', 'rollcall_authorization_update', 'rollcall_authorization_delete', 'rollcall_authorization_truncate']);
create policy "conversations" on realtime.messages for select to authenticated
  using (realtime.topic() in (select 'conversation:' || c from rollcall.my_conversations() c));
select is(pg_temp.sources(), 'bans members rollcall.conversation_participants rollcall.conversations', 'our own functions are looked into');
create view public.open_rooms as select m.room from public.members m;
create table public.rooms (name text);
create view public.all_rooms as select name from public.rooms;
grant select on public.all_rooms to authenticated;
create policy "by view" on realtime.messages for select to authenticated using (realtime.topic() in (select name from public.all_rooms));
select is(pg_temp.sources(), 'bans members rollcall.conversation_participants rollcall.conversations rooms', 'a view stands for its tables');
insert into rollcall.conversations (id, created_by) values (tests.node(1), tests.u(1));
insert into rollcall.conversation_participants (conversation_id, user_id) values (tests.node(1), tests.u(1));
select is(pg_temp.may('authenticated', tests.u(1), 'conversation:' || tests.node(1)), '1 0 0 0', 'a participant of a conversation');

-- Traces and time ----------------------------------------------------------------------------------------------------
select is((select array_agg(t order by t) from unnest(rollcall_internal.value_hashes(array['{"a": "room:1", "b": null, "c": 7}'::jsonb])) t),
  (select array_agg(left(encode(sha256(convert_to(v, 'UTF8')), 'hex'), 8) order by left(encode(sha256(convert_to(v, 'UTF8')), 'hex'), 8))
   from unnest(array['room:1', '7']) v), 'a value leaves the beginning of its SHA-256');
select is(rollcall_internal.value_hashes(array_fill('{"a": 1}'::jsonb, array[101])), '{}', 'too many rows leave none, which is everybody');
select is(rollcall_internal.authorization_depends_on_time(), true, 'clock_timestamp() in a policy');
drop policy "by row" on realtime.messages;
select is(rollcall_internal.authorization_depends_on_time(), false, 'none');
create or replace function public.banned() returns boolean language sql stable security definer as $$
  select exists (select from public.bans where user_id = auth.uid() and now() > '2020-01-01') $$;
select is(rollcall_internal.authorization_depends_on_time(), true, 'now() in a function that a policy calls');

-- Whose it is --------------------------------------------------------------------------------------------------------
select tests.as_user(tests.u(1));
select throws_ok($$ select * from rollcall_internal.probe_channels('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}') $$, '42501', null, 'the probe is the server''s');
select throws_ok($$ select rollcall.invalidate_channel_authorization('x') $$, '42501', null, 'so is what voids answers');

select * from finish();
rollback;
