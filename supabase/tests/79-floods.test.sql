-- Floods by plain SQL: heartbeats, typing, statuses and sign-offs, by function and on the tables. Counted are the rows that
-- a statement writes and the notifications that it sends.
begin;
select plan(30);
insert into rollcall.conversations (id, created_by) select tests.u(n), tests.u(1) from generate_series(100, 500) n;
insert into rollcall.conversation_participants (conversation_id, user_id) select tests.u(n), tests.u(1) from generate_series(100, 500) n;

-- Rows that were inserted, updated or deleted in a table within this transaction.
create function tests.written(p_table regclass) returns bigint language sql security definer as $$
  select pg_stat_get_xact_tuples_inserted(p_table) + pg_stat_get_xact_tuples_updated(p_table) + pg_stat_get_xact_tuples_deleted(p_table)
$$;
-- Rows in all tables of Rollcall, without the quotas.
create function tests.all_written() returns bigint language sql security definer as $$
  select sum(tests.written(c.oid))::bigint from pg_class c
  where c.relkind = 'r' and c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
    and c.oid <> 'rollcall_internal.rate_limits'::regclass
$$;
-- In place of the function that notifies: counts.
create table tests.notifications (channel text);
grant all on tests.notifications to public;
create or replace function rollcall_internal.notify(p_channel text, p_body text, p_nonce text default null) returns void
  language sql volatile security definer set search_path = '' as $$ insert into tests.notifications values (p_channel) $$;
create or replace function rollcall_internal.notify_directly(p_channel text, p_body text) returns void
  language sql volatile security definer set search_path = '' as $$ insert into tests.notifications values (p_channel) $$;
create function tests.notified() returns bigint language sql security definer as $$ select count(*) from tests.notifications $$;

-- What so many repetitions of a statement, by user 1, come to.
create type tests.effect as (written bigint, notified bigint, refused bigint, failed text);
create function tests.flood(p_count int, variadic p_statements text[]) returns tests.effect language plpgsql as $$
declare
  v_written constant bigint := tests.all_written();
  v_notified constant bigint := tests.notified();
  v_refused bigint := 0;
  v_failed text;
begin
  perform tests.as_user(tests.u(1));
  for n in 1..p_count loop
    begin
      execute replace(p_statements[1 + n % cardinality(p_statements)], '$n', n::text);
    exception
      when sqlstate 'PT429' then v_refused := v_refused + 1;
      when others then v_failed := sqlstate;
    end;
  end loop;
  perform tests.as_owner();
  return (tests.all_written() - v_written, tests.notified() - v_notified, v_refused, v_failed);
end
$$;

-- The second halves of functions, called alone.
create function tests.halves() returns text[] language plpgsql as $$
declare v_errors text[] := '{}';
begin
  perform tests.as_user(tests.u(1));
  begin perform rollcall.record_heartbeat('phone', true); exception when others then v_errors := v_errors || sqlstate; end;
  begin perform rollcall.record_sign_off('phone'); exception when others then v_errors := v_errors || sqlstate; end;
  perform tests.as_owner();
  return v_errors;
end
$$;
create function tests.refill() returns void language sql as $$ delete from rollcall_internal.rate_limits $$;
grant usage on schema tests to public;
select tests.as_owner();

-- Heartbeats -------------------------------------------------------------------------------------------------------
select ok((tests.flood(1, $$ select rollcall.heartbeat_mine('phone', true) $$)).written > 0, 'the first heartbeat makes the device');
select is(tests.flood(500, $$ select rollcall.heartbeat_mine('phone') $$), (0, 0, 0, null)::tests.effect, 'heartbeats within five seconds write nothing');
select is(tests.flood(500, $$ select rollcall.heartbeat_mine('phone', true) $$), (0, 0, 0, null)::tests.effect, 'also those of a device in use');
select tests.rewind(tests.u(1), '6 seconds');
select cmp_ok((tests.flood(500, $$ select rollcall.heartbeat_mine('phone') $$)).written, '<', 10::bigint, 'later, one of many writes');
select ok((select last_heartbeat_at > clock_timestamp() - interval '2 seconds' from rollcall.presence_devices), 'and counts');
update rollcall.presence_devices set idle_since = now(), last_active_at = now() - interval '5 minutes';
select ok((select written between 1 and 12 and failed is null from tests.flood(500, $$ select rollcall.heartbeat_mine('phone', true) $$)), 'the end of idleness is written once');
select is((select idle_since from rollcall.presence_devices), null, 'and counts');

select is(tests.halves(), array['42501', '42501'], 'the second halves of functions are refused');

-- Typing -----------------------------------------------------------------------------------------------------------
select is((tests.flood(1, $$ insert into rollcall.typing_indicators (conversation_id, user_id) values (tests.u(100), auth.uid()) $$)).notified, 1::bigint,
  'typing that starts is notified');
create temp table refreshed as
  select f.*, extract(epoch from clock_timestamp() - b.began) as seconds from (select clock_timestamp() as began offset 0) b
  cross join lateral tests.flood(300 + 0 * extract(second from b.began)::int,
    $$ insert into rollcall.typing_indicators (conversation_id, user_id) values (tests.u(100), auth.uid())
    on conflict (conversation_id, user_id) do update set updated_at = clock_timestamp(), expires_at = clock_timestamp() + interval '5 seconds' $$) f;
select ok(written <= 1 + 2 * seconds and notified <= seconds and (refused, failed) is not distinct from (0::bigint, null::text),
  'refreshes write a row twice a second') from refreshed;
select is(tests.flood(300,
    $$ update rollcall.typing_indicators set updated_at = clock_timestamp() $$,
    $$ update rollcall.typing_indicators set expires_at = expires_at - interval '3 seconds' $$,
    $$ update rollcall.typing_indicators set id_is_number = not id_is_number $$),
  (0, 0, 0, null)::tests.effect, 'other updates write nothing');
alter table rollcall.typing_indicators disable trigger user;
update rollcall.typing_indicators set updated_at = clock_timestamp() - interval '1 second', expires_at = clock_timestamp() + interval '4 seconds';
alter table rollcall.typing_indicators enable trigger user;
select is(tests.flood(100, $$ update rollcall.typing_indicators set updated_at = clock_timestamp(), expires_at = clock_timestamp() + interval '5 seconds' $$),
  (1, 0, 0, null)::tests.effect, 'a second later one of them is written, and nobody is notified');
alter table rollcall.typing_indicators disable trigger user;
update rollcall.typing_indicators set updated_at = clock_timestamp() - interval '3 seconds', expires_at = clock_timestamp() + interval '2 seconds';
alter table rollcall.typing_indicators enable trigger user;
select is((tests.flood(100, $$ update rollcall.typing_indicators set updated_at = clock_timestamp(), expires_at = clock_timestamp() + interval '5 seconds' $$)).notified,
  1::bigint, 'three seconds later one of them is notified');
select is((tests.flood(1, $$ delete from rollcall.typing_indicators $$)).notified, 1::bigint, 'the end is notified');

-- So slow that a slow machine refills few.
update rollcall.limits set per_minute = 12;
create temp table started as select * from tests.flood(800,
  $$ insert into rollcall.typing_indicators (conversation_id, user_id) values (tests.u(100), auth.uid()) $$,
  $$ delete from rollcall.typing_indicators where conversation_id = tests.u(100)::text $$);
select ok(written between 22 and 60, format('starting and ending again and again writes %s rows', written)) from started;
select ok(notified between 22 and 60, format('and notifies %s times', notified)) from started;
select ok(refused > 350 and failed is null, format('then starts are refused, %s of them', refused)) from started;
create temp table spread as select * from tests.flood(400,
  $$ insert into rollcall.typing_indicators (conversation_id, user_id) values (tests.u(100 + $n), auth.uid()) $$);
select ok(written < 30 and refused > 370, format('in all conversations together: %s rows', written)) from spread;

-- Statuses ---------------------------------------------------------------------------------------------------------
select tests.refill();
create temp table statuses as select * from tests.flood(1000,
  $$ update rollcall.presence_devices set status = 'away' where device_id = 'phone' $$,
  $$ update rollcall.presence_devices set status = 'online' where device_id = 'phone' $$);
select ok(notified between 10 and 60 and refused > 950, format('flipping the status of a device notifies %s times', notified)) from statuses;
select is((tests.flood(100, $$ update rollcall.presence_devices set activity = 'step $n' where device_id = 'phone' $$)).notified < 10, true, 'an activity counts too');
select tests.refill();
create temp table choices as select * from tests.flood(1000,
  $$ insert into rollcall.presence_choices (user_id, chosen) values (auth.uid(), 'busy') on conflict (user_id) do update set chosen = 'busy' $$,
  $$ update rollcall.presence_choices set chosen = 'dnd' $$,
  $$ delete from rollcall.presence_choices $$);
select ok(notified < 60 and refused > 950, format('changing the choice notifies %s times', notified)) from choices;
select tests.refill();
create temp table devices as select * from tests.flood(1000,
  $$ insert into rollcall.presence_devices (user_id, device_id) values (auth.uid(), 'd$n') $$,
  $$ delete from rollcall.presence_devices where device_id like 'd%' $$);
select ok(notified < 60 and refused > 950, format('so does adding and deleting devices, %s times', notified)) from devices;
select tests.refill();
select is((tests.flood(5, $$ update rollcall.presence_devices set device_name = 'name $n', last_navigation_path = '/$n' where device_id = 'phone' $$)).refused,
  0::bigint, 'names and context signals are not counted');
select is((select count(*) from rollcall_internal.rate_limits), 0::bigint, 'at all');

-- Sign-offs --------------------------------------------------------------------------------------------------------
select ok((tests.flood(1, $$ select rollcall.sign_off_mine('phone') $$)).notified > 0, 'a sign-off is notified');
select is(tests.flood(200, $$ select rollcall.sign_off_mine('phone') $$), (0, 0, 0, null)::tests.effect, 'once');
select is(tests.flood(200, $$ select rollcall.heartbeat_mine('phone', true) $$), (0, 0, 0, null)::tests.effect, 'and heartbeats after it write nothing');

-- Others -----------------------------------------------------------------------------------------------------------
select tests.flood(300, $$ update rollcall.presence_devices set status = 'away' where device_id = 'phone' $$);
select tests.as_user(tests.u(2));
select ok(rollcall.heartbeat_mine('phone'), 'another user has quotas of its own');
update rollcall.presence_devices set status = 'away';
select is((select status from rollcall.presence_devices), 'away', 'for each kind');
select tests.as_owner();
update rollcall.presence_devices set status = 'away' from generate_series(1, 300) where user_id = tests.u(1);
select is((tests.flood(1, $$ update rollcall.presence_devices set status = 'away' $$)).refused, 1::bigint, 'the owner is not limited');

select * from finish();
rollback;
