-- Devices in the background: away for the time that they announced after their socket closed, then offline.
begin;
select plan(28);
select tests.as_owner();
create function pg_temp.device(p_user uuid, p_device text default 'phone') returns text language sql
as $$ select concat_ws(' ', status, cardinality(nodes), background_seconds) from rollcall.presence_devices
  where user_id = p_user and device_id = p_device $$;
select rollcall_internal.renew_lease(tests.node(1), '1 hour');

-- A socket that closes in the background.
select from tests.write('connect', tests.u(1), 'phone', tests.node(1), p_active => true);
select from tests.write('status', tests.u(1), 'phone', p_status => 'away', p_background => 60);
select is(pg_temp.device(tests.u(1)), 'away 1 60', 'a device goes to the background');
select from tests.write('disconnect', tests.u(1), 'phone', tests.node(1), 5);
select is(pg_temp.device(tests.u(1)), 'away 0 60', 'it stays away without its socket');
select is(tests.face(tests.u(1), 'public'), 'away/away', 'and so its user');
select tests.rewind(tests.u(1), '50 seconds');
select is((select devices from rollcall.sweep()), 0::bigint, 'longer than a device on heartbeats');
select tests.rewind(tests.u(1), '61 seconds');
select is((select devices from rollcall.sweep()), 1::bigint, 'as long as it announced');
select is(tests.face(tests.u(1), 'public'), 'offline/offline', 'then it is offline');
select is(tests.last_seen(tests.u(1), 'public'), date_trunc('milliseconds', now() - interval '61 seconds'),
  'last seen when its socket closed');
select from tests.write('heartbeat', tests.u(1), 'phone');
select is(pg_temp.device(tests.u(1)), 'away 0 60', 'a heartbeat in the background brings it back as away');
select from tests.write('heartbeat', tests.u(1), 'phone', p_active => true);
select is(pg_temp.device(tests.u(1)), 'online 0', 'a heartbeat in use ends the background');

-- A frozen app, whose socket is still open.
select from tests.write('connect', tests.u(2), 'phone', tests.node(1), p_active => true);
select from tests.write('status', tests.u(2), 'phone', p_status => 'away', p_background => 60);
select from tests.write('silent', tests.u(2), 'phone', tests.node(1), 28);
select is(pg_temp.device(tests.u(2)), 'away 1 60', 'a frozen app in the background is away');
select from tests.write('silent', tests.u(2), 'phone', tests.node(1), 61);
select is(pg_temp.device(tests.u(2)), 'offline 1 60', 'not longer than it announced');
select from tests.write('connect', tests.u(2), 'phone', tests.node(1));
select is(pg_temp.device(tests.u(2)), 'away 1 60', 'a sign of life does not end the background');
select from tests.write('connect', tests.u(2), 'phone', tests.node(1), p_active => true);
select is(pg_temp.device(tests.u(2)), 'online 1', 'a socket that opens does');

-- What the user chose.
select from tests.write('status', tests.u(3), 'phone', p_status => 'online');
select from tests.write('status', tests.u(3), 'phone', p_status => 'invisible');
select from tests.write('status', tests.u(3), 'phone', p_status => 'away', p_background => 60);
select is(tests.face(tests.u(3), 'public'), 'offline/offline', 'an invisible user stays invisible in the background');
select is(tests.face(tests.u(3), 'trusted'), 'invisible/away', '(and away for the trusted)');
select from tests.write('status', tests.u(3), 'phone', p_status => 'away');
select is(tests.face(tests.u(3), 'public'), 'away/away', 'away without background is a choice');
select is(pg_temp.device(tests.u(3)), 'away 0', 'and ends the background');
select from tests.write('status', tests.u(3), 'phone', p_status => 'busy', p_background => 60);
select is(pg_temp.device(tests.u(3)), 'away 0 60', 'a choice may come with the background');

-- Nodes that die or stop.
select rollcall_internal.renew_lease(tests.node(2), '1 hour');
select from tests.write('connect', tests.u(4), 'phone', tests.node(2), p_active => true);
select from tests.write('status', tests.u(4), 'phone', p_status => 'away', p_background => 600);
update rollcall.presence_nodes set lease_expires_at = now() - interval '1 second', renewed_at = now() where id = tests.node(2);
select from rollcall.sweep();
select is(pg_temp.device(tests.u(4)), 'away 0 600', 'the death of a node does not end the background');
select from tests.write('connect', tests.u(5), 'phone', tests.node(1), p_active => true);
select from tests.write('status', tests.u(5), 'phone', p_status => 'away', p_background => 600);
select rollcall_internal.release_lease(tests.node(1));
select is(pg_temp.device(tests.u(5)), 'away 0 600', 'nor does its stop');

-- In SQL.
select is((select status::text from rollcall.set_status(tests.u(6), 'away', 'phone', 120)), 'away', 'an operator may set it');
select is(pg_temp.device(tests.u(6)), 'away 0 120', 'with its time');
select throws_ok(format('select rollcall.set_status(%L, ''online'', ''phone'', 120)', tests.u(6)), '22023', null, 'not with online');
select throws_ok(format('select rollcall.set_status(%L, ''away'', ''phone'', 0)', tests.u(6)), '23514', null, 'not for no time');
select tests.as_user(tests.u(7));
select is((select status::text from rollcall.set_my_status('away', 'phone', p_background => 300)), 'away', 'a user does it');
select tests.as_owner();
select is(pg_temp.device(tests.u(7)), 'away 0 300', 'with the time');
select tests.as_user(tests.u(7));
update rollcall.presence_devices set status = 'online' where device_id = 'phone';
select tests.as_owner();
select is(pg_temp.device(tests.u(7)), 'online 0', 'online in SQL ends the background');
select rollcall.set_status(tests.u(7), 'away', 'phone', 300), rollcall.sign_off(tests.u(7), 'phone');
select is(pg_temp.device(tests.u(7)), 'offline 0', 'signing off ends it too');

select * from finish();
rollback;
