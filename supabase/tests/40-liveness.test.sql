-- What each kind of write does, leases, the sweep, and that nothing outlives its time.
begin;
select plan(70);
select tests.as_owner();
create function pg_temp.device(p_user uuid, p_device text) returns text language sql
as $$ select status || ' ' || cardinality(nodes) from rollcall.presence_devices where user_id = p_user and device_id = p_device $$;

-- status -------------------------------------------------------------------------------------------------------------
select is((select status::text from tests.write('status', tests.u(1), p_status => 'online')), 'online', 'a write returns the trusted face');
select is(pg_temp.device(tests.u(1), 'default'), 'online 0', 'a status without a device, of a user without any, makes `default`');
select tests.says(tests.u(1), 'online', 'phone'), tests.says(tests.u(1), 'offline', 'laptop');
select from tests.write('status', tests.u(1), p_status => 'away');
select is((select string_agg(device_id || ' ' || status, ', ' order by device_id) from rollcall.presence_devices where user_id = tests.u(1)),
  'default away, laptop offline, phone away', 'a status without a device speaks for all live ones');
select from tests.write('status', tests.u(1), p_status => 'offline');
select is((select count(*) from rollcall.presence_devices where user_id = tests.u(1) and live), 0::bigint, 'offline too');
select from tests.write('status', tests.u(1), p_status => 'online');
select is((select string_agg(device_id || ' ' || status, ', ' order by device_id) from rollcall.presence_devices where user_id = tests.u(1)),
  'default online, laptop offline, phone offline', 'where none is live it brings `default` back, and no other');
select tests.says(tests.u(2), 'online', 'phone'), tests.says(tests.u(2), 'offline', 'phone');
select from tests.write('status', tests.u(2), p_status => 'offline');
select is((select count(*) from rollcall.presence_devices where user_id = tests.u(2)), 1::bigint, 'saying offline makes no device');
select throws_ok($$ select tests.write('status', tests.u(2), '', p_status => 'online') $$, '23514', null, 'an empty device id is refused');
select throws_ok($$ select tests.write('status', tests.u(2), 'x', p_status => 'online', p_activity => repeat('x', 256)) $$, '23514', null,
  'an activity too long is refused');

-- heartbeat ----------------------------------------------------------------------------------------------------------
select from tests.write('heartbeat', tests.u(3), 'phone');
select is(pg_temp.device(tests.u(3), 'phone'), 'online 0', 'a heartbeat of an unknown device makes it');
select tests.rewind(tests.u(3), '1 minute');
select is((select devices from rollcall.sweep()), 1::bigint, 'without heartbeats a device is swept');
select is(tests.face(tests.u(3), 'public'), 'offline/offline', 'and its user offline');
select is(tests.last_seen(tests.u(3), 'public'), date_trunc('milliseconds', now() - interval '1 minute'), 'last seen at the last heartbeat');
select from tests.write('heartbeat', tests.u(3), 'phone');
select is(pg_temp.device(tests.u(3), 'phone'), 'online 0', 'a heartbeat brings back what was given up');
select tests.says(tests.u(3), 'offline');
select from tests.write('heartbeat', tests.u(3), 'phone');
select is(pg_temp.device(tests.u(3), 'phone'), 'offline 0', 'but not what signed off');
select from tests.write('heartbeat', tests.u(3));
select is((select count(*) from rollcall.presence_devices where user_id = tests.u(3)), 1::bigint, 'not under the name `default` either');
select from tests.write('status', tests.u(4), p_status => 'online');
update rollcall.presence_devices set last_heartbeat_at = now() - interval '20 seconds' where user_id = tests.u(4);
select from tests.write('heartbeat', tests.u(4));
select is((select devices from rollcall.sweep()), 0::bigint, 'a heartbeat without a device keeps all live ones alive');
select from tests.write('status', tests.u(4), p_status => 'offline');
select from tests.write('heartbeat', tests.u(4));
select is(pg_temp.device(tests.u(4), 'default'), 'offline 0', 'a late one does not bring `default` back');

-- connect and disconnect -----------------------------------------------------------------------------------------------
select rollcall_internal.renew_lease(tests.node(1), '10 seconds'), rollcall_internal.renew_lease(tests.node(2), '10 seconds');
select from tests.write('connect', tests.u(5), 'phone', tests.node(1));
select is(pg_temp.device(tests.u(5), 'phone'), 'online 1', 'a socket makes a device live');
select from tests.write('connect', tests.u(5), 'phone', tests.node(1));
select is(pg_temp.device(tests.u(5), 'phone'), 'online 1', 'said twice, it counts once');
select from tests.write('connect', tests.u(5), 'phone', tests.node(2));
select is(pg_temp.device(tests.u(5), 'phone'), 'online 2', 'several nodes may hold a device');
select from tests.write('disconnect', tests.u(5), 'phone', tests.node(1), 5);
select is(pg_temp.device(tests.u(5), 'phone'), 'online 1', 'it stays live as long as one does');
select from tests.write('disconnect', tests.u(5), 'phone', tests.node(1), 5);
select is(pg_temp.device(tests.u(5), 'phone'), 'online 1', 'a node lets go of its own socket only');
select tests.rewind(tests.u(5), '1 hour');
select from tests.write('disconnect', tests.u(5), 'phone', tests.node(2), 5);
select is(pg_temp.device(tests.u(5), 'phone'), 'offline 0', 'the last one takes it offline');
select ok(tests.last_seen(tests.u(5), 'public') between clock_timestamp() - interval '6 seconds' and clock_timestamp() - interval '4 seconds',
  'last seen when the socket closed, not when the grace ended');
select from tests.write('disconnect', tests.u(6), 'phone', tests.node(1));
select is(tests.face(tests.u(6), 'trusted'), null, 'a socket that nobody knows makes nobody known');
select from tests.write('connect', tests.u(7), 'phone', tests.node(1));
update rollcall.presence_devices set last_active_at = now() - interval '6 minutes' where user_id = tests.u(7);
select is((select idle from rollcall.sweep()), 1::bigint, 'a connected device becomes idle');
select from tests.write('connect', tests.u(7), 'phone', tests.node(1));
select is(tests.face(tests.u(7), 'public'), 'away/away', 'a node that says again what it holds does not wake anybody');
select tests.says(tests.u(7), 'offline', 'phone');
select is(pg_temp.device(tests.u(7), 'phone'), 'offline 1', 'offline takes effect at once, on an open socket too');
select from tests.write('connect', tests.u(7), 'phone', tests.node(1));
select is(pg_temp.device(tests.u(7), 'phone'), 'offline 1', 'and that the socket is still there does not undo it');
select from tests.write('connect', tests.u(7), 'phone', tests.node(2));
select is(pg_temp.device(tests.u(7), 'phone'), 'online 2', 'a new socket does');

-- silent -----------------------------------------------------------------------------------------------------------
select from tests.write('connect', tests.u(8), 'phone', tests.node(1));
select tests.rewind(tests.u(8), '1 hour');
select from tests.write('silent', tests.u(8), 'phone', tests.node(1), 25);
select is(pg_temp.device(tests.u(8), 'phone'), 'offline 1', 'a silent socket is offline, and still connected');
select ok(tests.last_seen(tests.u(8), 'public') between clock_timestamp() - interval '26 seconds' and clock_timestamp() - interval '24 seconds',
  'last seen when it last said something');
select from tests.write('connect', tests.u(8), 'phone', tests.node(1));
select is(pg_temp.device(tests.u(8), 'phone'), 'online 1', 'what it says next brings it back');
select tests.write('connect', tests.u(8), 'phone', tests.node(2)), tests.write('silent', tests.u(8), 'phone', tests.node(1), 25);
select is(pg_temp.device(tests.u(8), 'phone'), 'online 2', 'a socket elsewhere may well be awake');

-- A batch ------------------------------------------------------------------------------------------------------------
select is(count(*), 3::bigint, 'a batch mixes kinds and users, and returns a face for each')
  from rollcall_internal.write_presence(array['status', 'connect', 'heartbeat', 'disconnect'],
    array[tests.u(20), tests.u(21), tests.u(22), tests.u(23)], array[null, 'a', 'b', 'c'],
    array[null, tests.node(1), null, tests.node(1)], array[0, 0, 0, 1], array[false, false, true, false],
    array['dnd', null, null, null]::rollcall.presence_status[], array[true, false, false, false],
    array['at lunch', null, null, null], array[now() + interval '1 hour', null, null, null],
    array['eating', null, null, null], array[null, null, null, null]::text[]);
select is((select p.status || ' ' || p.custom_status || ' ' || p.activity from rollcall.user_presence p where user_id = tests.u(20) and face = 'trusted'),
  'dnd at lunch eating', 'each gets what was said of it');

-- Custom status ------------------------------------------------------------------------------------------------------
select from tests.write('status', tests.u(20), p_status => 'online');
select is((select custom_status from rollcall.user_presence where user_id = tests.u(20) and face = 'public'), 'at lunch', 'a status leaves the custom status alone');
update rollcall.presence_choices set custom_status_expires_at = clock_timestamp() - interval '1 second' where user_id = tests.u(20);
select is((select custom_statuses from rollcall.sweep()), 1::bigint, 'past its time it is swept');
select is((select custom_status from rollcall.presence_choices where user_id = tests.u(20)), null, 'and gone');
select from tests.write('status', tests.u(20), p_status => 'online', p_set_custom => true, p_custom => 'back');
select from tests.write('status', tests.u(20), p_status => 'online', p_set_custom => true);
select is((select custom_status from rollcall.user_presence where user_id = tests.u(20) and face = 'public'), null, 'it is cleared by saying so');
select throws_ok($$ select tests.write('status', tests.u(20), p_status => 'online', p_set_custom => true, p_custom => repeat('x', 141)) $$,
  '23514', null, 'and has at most 140 characters');

-- Sign-off -----------------------------------------------------------------------------------------------------------
select from tests.write('connect', tests.u(25), 'phone', tests.node(1));
select from tests.write('status', tests.u(25), 'phone', tests.node(1), p_status => 'offline');
select from tests.write('status', tests.u(25), 'phone', tests.node(1), p_status => 'online');
select is(pg_temp.device(tests.u(25), 'phone'), 'online 1', 'a status of the socket ends the status offline');
select rollcall.sign_off(tests.u(25), 'phone');
select from tests.write('status', tests.u(25), 'phone', tests.node(1), p_status => 'busy');
select is(pg_temp.device(tests.u(25), 'phone'), 'offline 0', 'a late status of a socket that a sign-off closed does not bring the device back');
select is((select chosen::text from rollcall.presence_choices where user_id = tests.u(25)), 'busy', 'but is kept for the next session');
select tests.says(tests.u(25), 'busy', 'phone');
select is(pg_temp.device(tests.u(25), 'phone'), 'online 0', 'a status without a socket brings it back');

-- By hand ------------------------------------------------------------------------------------------------------------
select from tests.write('connect', tests.u(30), 'phone', tests.node(1));
select tests.rewind(tests.u(30), '1 hour');
update rollcall.presence_devices set last_active_at = now() - interval '1 hour' where user_id = tests.u(30);
select tests.rewind(tests.u(30), '1 hour');
update rollcall.presence_devices set status = 'offline' where user_id = tests.u(30);
select ok(tests.last_seen(tests.u(30), 'public') > now() - interval '10 seconds', 'offline by hand: a device with a socket was live until now');
select isnt((select signed_off_at from rollcall.presence_devices where user_id = tests.u(30)), null, 'and has signed off');
update rollcall.presence_devices set status = 'online' where user_id = tests.u(30);
select ok((select last_active_at > now() - interval '10 seconds' and signed_off_at is null from rollcall.presence_devices where user_id = tests.u(30)),
  'online by hand: somebody is there');
select is((select status::text from rollcall.set_status(tests.u(30), 'dnd')), 'dnd', 'set_status does what the user could');

-- Leases -------------------------------------------------------------------------------------------------------------
select is(rollcall_internal.renew_lease(tests.node(3), '10 seconds'), false, 'a new lease is no renewal');
select is(rollcall_internal.renew_lease(tests.node(3), '10 seconds'), true, 'the next is');
update rollcall.presence_nodes set lease_expires_at = clock_timestamp() - interval '1 second' where id = tests.node(3);
select is(rollcall_internal.renew_lease(tests.node(3), '10 seconds'), false, 'nor is one after the lease has lapsed');

select tests.write('connect', tests.u(40), 'phone', tests.node(3)), tests.write('connect', tests.u(41), 'phone', tests.node(3)),
  tests.write('connect', tests.u(41), 'phone', tests.node(1)), tests.write('connect', tests.u(42), 'phone', tests.node(3));
select tests.says(tests.u(42), 'offline', 'phone');
select tests.rewind(tests.u(40), '1 hour');
update rollcall.presence_nodes set renewed_at = now() - interval '11 seconds', lease_expires_at = now() - interval '1 second' where id = tests.node(3);
select results_eq('select nodes, devices from rollcall.sweep()', 'values (1::bigint, 3::bigint)', 'a dead node loses its devices');
select is(pg_temp.device(tests.u(40), 'phone') || ', ' || pg_temp.device(tests.u(41), 'phone'), 'offline 0, online 1',
  'offline, unless another node holds them');
select is(tests.last_seen(tests.u(40), 'public'), date_trunc('milliseconds', now() - interval '11 seconds'), 'last seen when the node last said so');
select is(tests.last_seen(tests.u(42), 'public'), (select last_seen from rollcall.user_last_seen where user_id = tests.u(42)),
  'which says nothing of a device that had signed off before');
select ok(tests.last_seen(tests.u(42), 'public') > now() - interval '10 seconds', '(that one was seen signing off)');

select rollcall_internal.release_lease(tests.node(1), '5 seconds');
select ok((select lease_expires_at between clock_timestamp() + interval '4 seconds' and clock_timestamp() + interval '5 seconds'
  from rollcall.presence_nodes where id = tests.node(1)), 'a node that stops while others run leaves its devices a grace');
select is(tests.face(tests.u(41), 'public'), 'online/online', 'in which they stay online');
delete from rollcall.presence_nodes where id <> tests.node(1);
select rollcall_internal.release_lease(tests.node(1), '5 seconds');
select is((select count(*) from rollcall.presence_devices where tests.node(1) = any (nodes)), 0::bigint,
  'a node that is the last to stop lets go of all');
select is(tests.face(tests.u(41), 'public'), 'offline/offline', 'at once');

-- The rest of the sweep ----------------------------------------------------------------------------------------------
insert into rollcall.conversations (id, created_by) values (tests.node(9), tests.u(1));
insert into rollcall.typing_indicators (conversation_id, user_id, expires_at)
  values (tests.node(9), tests.u(1), clock_timestamp() - interval '1 second'), (tests.node(9), tests.u(2), clock_timestamp() + interval '1 hour');
select is((select typing from rollcall.sweep()), 1::bigint, 'typing past its time ends');
select ok((select expires_at <= clock_timestamp() + interval '5 seconds' from rollcall.typing_indicators), 'and nobody types for an hour');
select is((select sum(nodes + devices + idle + custom_statuses + typing) from rollcall.sweep()), 0::numeric, 'a sweep after a sweep has nothing to do');

-- A clock that went back by an hour ---------------------------------------------------------------------------------
select is(rollcall_internal.renew_lease(tests.node(4), '10 seconds'), false, 'a node takes a lease before the clock goes back');
select tests.write('connect', tests.u(50), 'phone', tests.node(4)), tests.says(tests.u(51), 'online', 'phone');
select tests.rewind(tests.u(51), '-1 hour');
update rollcall.presence_nodes set renewed_at = renewed_at + interval '1 hour', lease_expires_at = lease_expires_at + interval '1 hour'
  where id = tests.node(4);
update rollcall.presence_devices set last_active_at = now() + interval '1 hour' where user_id = tests.u(51);
-- The trigger would limit the time.
alter table rollcall.typing_indicators disable trigger limit_typing_times;
insert into rollcall.typing_indicators (conversation_id, user_id, expires_at)
  values (tests.node(9), tests.u(3), now() + interval '1 hour');
alter table rollcall.typing_indicators enable trigger limit_typing_times;
select results_eq('select devices, typing from rollcall.sweep()', 'values (0::bigint, 1::bigint)',
  'typing ends, nodes and devices stay');
select ok((select lease_expires_at between clock_timestamp() and clock_timestamp() + interval '10 seconds'
  from rollcall.presence_nodes where id = tests.node(4)), 'for one lease from now');
select ok((select last_heartbeat_at <= clock_timestamp() and last_active_at <= clock_timestamp() and idle_since is null
  from rollcall.presence_devices where user_id = tests.u(51)), 'and one timeout of silence from now');
select is(tests.face(tests.u(51), 'public'), 'online/online', 'they stay online');
select is((select sum(nodes + devices + idle + custom_statuses + typing) from rollcall.sweep()), 0::numeric, 'the next sweep finds nothing');

select * from finish();
rollback;
