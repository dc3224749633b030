-- What the tests share: loaded before them by tests/sql/run, and by `supabase test db` because of its name. It stays in
-- the database, which is one for tests.
-- Invariant: every function here may be called by every role, because tests become each of them.
create schema if not exists tests;
grant usage on schema tests to public;

-- The n-th user of a test.
create or replace function tests.u(n int) returns uuid language sql immutable
as $$ select ('a0000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

-- A node of a test.
create or replace function tests.node(n int) returns uuid language sql immutable
as $$ select ('d0000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

-- The rest of the transaction runs as that user, in the way in which the server does it.
create or replace function tests.as_user(p_user uuid) returns void language plpgsql
as $$
begin
  perform set_config('role', 'authenticated', true),
    set_config('request.jwt.claims', json_build_object('sub', p_user, 'role', 'authenticated')::text, true);
end
$$;

create or replace function tests.as_role(p_role text) returns void language plpgsql
as $$
begin
  perform set_config('role', p_role, true), set_config('request.jwt.claims', json_build_object('role', p_role)::text, true);
end
$$;

-- The rest of the transaction runs as the owner of the migrations, who also makes tables and policies of a test.
create or replace function tests.as_owner() returns void language plpgsql
as $$
begin
  perform set_config('role', (select nspowner::regrole::text from pg_namespace where nspname = 'rollcall'), true),
    set_config('request.jwt.claims', '', true);
end
$$;

-- One presence write, as the server does it.
create or replace function tests.write(
  p_kind text, p_user uuid, p_device text default null, p_node uuid default null, p_age double precision default 0,
  p_active boolean default false, p_status rollcall.presence_status default null, p_set_custom boolean default false,
  p_custom text default null, p_custom_expires timestamptz default null, p_activity text default null, p_page text default null,
  p_background int default null
) returns setof rollcall.user_presence language sql
as $$
  select * from rollcall_internal.write_presence(array[p_kind], array[p_user], array[p_device], array[p_node], array[p_age],
    array[p_active], array[p_status], array[p_set_custom], array[p_custom], array[p_custom_expires], array[p_activity],
    array[p_page], array[p_background])
$$;

create or replace function tests.says(p_user uuid, p_status rollcall.presence_status, p_device text default 'phone') returns void language sql
as $$ select from tests.write('status', p_user, p_device, p_status => p_status) $$;

-- A face in one line, to compare: status/reach, or null where there is none.
create or replace function tests.face(p_user uuid, p_face rollcall.presence_face) returns text language sql
as $$ select p.status || '/' || p.reach from rollcall.user_presence p where p.user_id = p_user and p.face = p_face $$;

create or replace function tests.last_seen(p_user uuid, p_face rollcall.presence_face) returns timestamptz language sql
as $$ select p.last_seen from rollcall.user_presence p where p.user_id = p_user and p.face = p_face $$;

create or replace function tests.version(p_user uuid, p_face rollcall.presence_face) returns bigint language sql
as $$ select p.version from rollcall.user_presence p where p.user_id = p_user and p.face = p_face $$;

-- As if nothing had been heard of a user for some time.
create or replace function tests.rewind(p_user uuid, p_by interval) returns void language sql
as $$
  -- Without the triggers, which would note that a live user is live now.
  select set_config('rollcall.batch', 'on', true);
  update rollcall.presence_devices set last_heartbeat_at = now() - p_by where user_id = p_user;
  update rollcall.user_last_seen set last_seen = now() - p_by where user_id = p_user;
  select set_config('rollcall.batch', '', true);
$$;

begin;
select plan(1);
select is(tests.u(1), 'a0000000-0000-4000-8000-000000000001', 'the helpers are there');
select * from finish();
rollback;
