-- What operators do in SQL: each action leaves one row in the audit log, which nobody can change.
begin;
select plan(25);
select rollcall_internal.renew_lease(tests.node(90), interval '1 minute');

-- What the last action left: action, user, target and reason.
create function tests.last_action() returns text language sql security definer as $$
  select concat_ws(' ', a.actor, a.role, a.action, a.user_id, a.target::text, a.reason, a.request_id)
  from rollcall.operator_audit a order by a.id desc limit 1
$$;
create function tests.actions() returns bigint language sql security definer as $$
  select count(*) from rollcall.operator_audit
$$;
create function tests.last_message() returns text language sql security definer as $$
  select concat_ws(' ', m.sender, m.recipient, m.is_answer, m.body)
  from rollcall_internal.node_messages m order by m.id desc limit 1
$$;
grant execute on function tests.last_action(), tests.actions(), tests.last_message() to public;

select tests.as_role('service_role');
select is(rollcall.disconnect(tests.u(1)), 0::bigint, 'nobody is connected');
select is(tests.last_action(), format('service_role service_role disconnect_user %s {"user_id": "%1$s"} disconnected by an administrator',
  tests.u(1)), 'a user is disconnected with the default reason');
select lives_ok($$select rollcall.disconnect(tests.u(1), 'lost', p_device => 'phone')$$, 'one device');
select is(tests.last_action(), format('service_role service_role disconnect_device %s {"user_id": "%1$s", "device_id": "phone"} lost',
  tests.u(1)), 'a device is named in the target');

select set_config('request.jwt.claims', json_build_object('role', 'service_role', 'sub', tests.u(7))::text, true);
select set_config('request.headers', '{"x-request-id": "from PostgREST"}', true);
select ok(rollcall.disconnect_connection(tests.node(90) || '.0.3.12', 'slow'), 'the node lives');
select is(tests.last_action(), format('%s service_role disconnect_connection {"connection_id": "%s.0.3.12"} slow from PostgREST',
  tests.u(7), tests.node(90)), 'the actor is the sub of the token, and the request has an ID');
select is(tests.last_message(), format('%s f {"disconnect" : {"connection" : "%1$s.0.3.12", "reason" : "slow"}}', tests.node(90)),
  'the node is asked, and answers nobody');
select set_config('rollcall.request_id', repeat('x', 100), true);
select ok(not rollcall.disconnect_connection(tests.node(91) || '.0.0.1'), 'a node without a lease does not live');
select ok(tests.last_action() like '% ' || repeat('x', 64), 'the ID of a request is cut after 64 characters');
select is(tests.actions(), 4::bigint, 'a row for each');

select throws_ok(format($$select rollcall.disconnect_connection(%L)$$, c.id), '22P02', null, 'no ID: ' || c.id)
from unnest(array['', 'x', tests.node(90)::text, tests.node(90) || '.0.0', upper(tests.node(90)::text) || '.0.0.1']) as c (id);
select throws_ok($$select rollcall.disconnect_connection(tests.node(90) || '.0.0.1', repeat('é', 62))$$, '22001', null,
  'a reason that does not fit into a close frame');
select throws_ok($$select rollcall.record_operator_action('disconnect_user', '{}')$$, '22023', null,
  'actions with a function of their own are not recorded without them');
select is(tests.actions(), 4::bigint, 'errors are no actions');

select lives_ok($$select rollcall.publish('harbour', 'notice', '{"text": "soon"}', false, 'maintenance')$$, 'publish');
select ok(tests.last_action() like '% publish {"event": "notice", "topic": "harbour", "private": false} maintenance %',
  'the log has no payload');
select is((select m.payload ->> 'text' from realtime.messages m where m.topic = 'harbour'), 'soon', 'the message is stored');
select throws_ok($$select rollcall.publish('harbour', 'notice', '[]')$$, '22023', null, 'the payload is an object');

select tests.as_user(tests.u(1));
select throws_ok(format('select rollcall.%s', c.call), '42501', null, 'no user calls ' || c.call)
from unnest(array[$$publish('a', 'b', '{}')$$, $$disconnect_connection('x')$$]) as c (call);

-- Retention: rows older than it go, the others stay.
select tests.as_owner();
update rollcall.operator_audit a set at = now() - interval '3 years' where a.action = 'publish';
update rollcall.retention r set applied_at = null where r.key = 'operator_audit';
select rollcall_internal.purge_expired();
select is(tests.actions(), 4::bigint, 'retention deletes old rows');
select * from finish();
rollback;
