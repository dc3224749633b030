-- What users do to their own presence by function, without the server.
begin;
select plan(20);
select tests.as_user(tests.u(1));
create temp view said as select p.status::text, p.reach::text, p.custom_status, p.activity from rollcall.user_presence p where p.user_id = auth.uid();

select is((select status::text from rollcall.set_my_status('online', 'phone')), 'online', 'the first status makes the device');
select is((select count(*) from rollcall.presence_devices), 1::bigint, 'and that one only');
select results_eq($$ select status::text, custom_status from rollcall.set_my_status('dnd', 'phone', true, 'deep work') $$,
  $$ values ('dnd', 'deep work') $$, 'a choice and a custom status count');
select results_eq($$ select status::text, custom_status from rollcall.set_my_status('away', 'phone') $$,
  $$ values ('away', 'deep work') $$, 'a plain status ends the choice and leaves the custom status');
select is((select activity from rollcall.set_my_status('online', 'phone', p_activity => 'reading')), 'reading', 'an activity shows');
select is((select activity from rollcall.set_my_status('online', 'phone')), 'reading', 'and stays unless it is said');
select is((select activity from rollcall.set_my_status('online', 'phone', p_activity => '')), null, 'an empty one is cleared');
select is((select custom_status from rollcall.set_my_status('online', 'phone', true)), null, 'so is a custom status');
select is((select status::text from rollcall.set_my_status('invisible', 'phone')), 'invisible', 'one may hide');
select is((select status::text from rollcall.set_my_status('offline', 'phone')), 'offline', 'and go');
select ok(not rollcall.heartbeat_mine('phone', true), 'a heartbeat does not bring back what signed off');
select is((select status::text from rollcall.set_my_status('online', 'phone')), 'online', 'a status does');

select tests.as_owner();
select tests.rewind(tests.u(1), '1 minute');
select tests.as_user(tests.u(1));
select ok(rollcall.heartbeat_mine('phone'), 'a heartbeat keeps a device alive');
select ok((select last_heartbeat_at > now() - interval '10 seconds' from rollcall.presence_devices where device_id = 'phone'), 'and is noted');
select ok(rollcall.heartbeat_mine('tablet'), 'a new device is made by it');
select throws_ok($$ select rollcall.heartbeat_mine('') $$, '23514', null, 'a device has a name');

select tests.as_owner();
create policy suspended on rollcall.presence_devices as restrictive for all to authenticated using (user_id <> tests.u(1));
select tests.as_user(tests.u(1));
select throws_ok($$ select from rollcall.set_my_status('online', 'laptop') $$, '42501', null, 'policies judge what is written');
select tests.as_role('authenticated');
select throws_ok($$ select from rollcall.set_my_status('online') $$, '42501', null, 'a token without a user sets nothing');
select throws_ok($$ select rollcall.heartbeat_mine() $$, '42501', null, 'and keeps nothing alive');
select tests.as_role('anon');
select throws_ok($$ select rollcall.heartbeat_mine() $$, '42501', null, 'nor does anon');

select * from finish();
rollback;
