-- Why a subscriber may use a private channel: the explanation equals what the probe decides, and names the policies. An
-- error inside a policy is reported as an error, with its message, not as a refusal.
begin;
select plan(16);
select tests.as_owner();

create function pg_temp.claims(p_role text, p_sub uuid) returns jsonb language sql as $$
  select jsonb_build_object('role', p_role, 'sub', p_sub)
$$;
create function pg_temp.allowed(p_role text, p_sub uuid, p_topic text) returns text language sql as $$
  select string_agg(distinct e.action, ', ' order by e.action) filter (where e.allowed)
  from rollcall.explain_channel(pg_temp.claims(p_role, p_sub), p_topic) e
$$;
create function pg_temp.reasons(p_role text, p_sub uuid, p_topic text, p_action text) returns text language sql as $$
  select string_agg(e.reason, '; ' order by e.reason)
  from rollcall.explain_channel(pg_temp.claims(p_role, p_sub), p_topic) e where e.action = p_action
$$;

select is(pg_temp.allowed('authenticated', tests.u(1), 'room:1'), null, 'without policies nothing is allowed');
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:1', 'read broadcast'),
  'no policy on realtime.messages allows it for the role authenticated', 'and the reason says so');
select is(pg_temp.reasons('nobody_knows', tests.u(1), 'room:1', 'read broadcast'),
  'there is no role nobody_knows', 'an unknown role is named');
select matches(pg_temp.reasons('service_role', null, 'room:1', 'write presence'),
  'row-level security does not bind|the permissive policy', 'service_role is explained');

create table public.rooms_of (user_id uuid, room text);
create policy "members read" on realtime.messages for select to authenticated
  using (exists (select from public.rooms_of r where r.user_id = (select auth.uid()) and r.room = (select realtime.topic())));
create policy "members broadcast" on realtime.messages for insert to authenticated
  with check (extension = 'broadcast' and (select realtime.topic()) like 'room:%');
select is(pg_temp.allowed('authenticated', tests.u(1), 'room:1'), null, 'an error inside a policy allows nothing');
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:1', 'read broadcast'),
  'the evaluation raises 42501: permission denied for table rooms_of; '
  || 'the policy "members read" on realtime.messages raises 42501 for the role authenticated: permission denied for table rooms_of',
  'a missing grant inside a policy is not a refusal');
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:1', 'write broadcast'),
  'the evaluation raises 42501: permission denied for table rooms_of; the permissive policy "members broadcast" allows it',
  'each policy is explained alone');

grant select on public.rooms_of to authenticated;
insert into public.rooms_of values (tests.u(1), 'room:1');
select is(pg_temp.allowed('authenticated', tests.u(1), 'room:1'), 'read broadcast, read presence, write broadcast',
  'with the grant the policies decide');
select is(pg_temp.reasons('authenticated', tests.u(2), 'room:1', 'read presence'),
  'the permissive policy "members read" does not allow it', 'a policy that does not hold is named');
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:1', 'write presence'),
  'the permissive policy "members broadcast" does not allow it', 'for writes too');

create policy "no room 2" on realtime.messages as restrictive for insert to authenticated
  with check (1 / (case when (select realtime.topic()) = 'room:2' then 0 else 1 end) = 1);
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:2', 'write broadcast'),
  'the evaluation raises 22012: division by zero; the permissive policy "members broadcast" allows it; '
  || 'the policy "no room 2" on realtime.messages raises 22012 for the role authenticated: division by zero',
  'an error of another kind, with its policy');
revoke insert on realtime.messages from authenticated;
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:1', 'write broadcast'),
  'the permissive policy "members broadcast" allows it; the restrictive policy "no room 2" allows it; '
  || 'the role authenticated may not insert into realtime.messages (grants)', 'a missing grant on the table');

-- A helper function in a schema that the role may not use, which a policy does not need.
grant insert on realtime.messages to authenticated;
drop policy "no room 2" on realtime.messages;
create schema helpers;
create function helpers.is_member() returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select from public.rooms_of r where r.user_id = (select auth.uid()) and r.room = (select realtime.topic()))
$$;
drop policy "members read" on realtime.messages;
create policy "members by function" on realtime.messages for select to authenticated using (helpers.is_member());
select is(pg_temp.allowed('authenticated', tests.u(1), 'room:1'), 'read broadcast, read presence, write broadcast',
  'a function in a closed schema decides');
select is(pg_temp.reasons('authenticated', tests.u(1), 'room:1', 'read broadcast'),
  'the permissive policy "members by function" cannot be evaluated alone', 'and is not reported as an error');

select is((select current_setting('role')), (select nspowner::regrole::text from pg_namespace where nspname = 'rollcall'),
  'the caller keeps its role');
select is_empty('select from realtime.messages', 'and no row stays');

select * from finish();
rollback;
