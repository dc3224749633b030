-- How many devices a user may have, whoever writes them.
begin;
select plan(20);
update rollcall.quotas set maximum = 3 where key = 'devices';
-- The devices of user 1, oldest first; the error of a statement, or null.
create function tests.devices() returns text language sql as $$
  select string_agg(device_id, ' ' order by device_id) from rollcall.presence_devices where user_id = tests.u(1)
$$;
create function tests.fails(p_statement text) returns text language plpgsql as $$
declare v_constraint text;
begin
  execute p_statement;
  return null;
exception when sqlstate 'PT409' then
  get stacked diagnostics v_constraint = constraint_name;
  return sqlstate || ' ' || v_constraint;
end
$$;
grant execute on function tests.fails to authenticated;
create function tests.says_by(p_device text, p_how text) returns text language sql as $$
  select tests.fails(format(case p_how
    when 'insert' then 'insert into rollcall.presence_devices (user_id, device_id) values (tests.u(1), %L)'
    when 'status' then 'select rollcall.set_my_status(''online'', %L)'
    when 'heartbeat' then 'select rollcall.heartbeat_mine(%L)' end, p_device))
$$;

select tests.as_user(tests.u(1));
select is(tests.says_by('a', 'insert'), null, 'a device');
select is(tests.says_by('b', 'status'), null, 'another');
select is(tests.says_by('c', 'heartbeat'), null, 'and the last');
select is(tests.says_by('d', how), 'PT409 presence_devices_per_user', format('%s: one more is refused while all are online', how))
  from unnest(array['insert', 'status', 'heartbeat']) how;
select is(tests.fails('insert into rollcall.presence_devices (user_id, device_id) select tests.u(1), n from generate_series(1, 50) n'),
  'PT409 presence_devices_per_user', 'also many at once');
select set_config('rollcall.batch', 'on', true);
select is(tests.says_by('d', 'insert'), 'PT409 presence_devices_per_user', 'also with the setting of batches');
select set_config('rollcall.batch', '', true);
select is(tests.devices(), 'a b c', 'nothing has changed');
select is(tests.says_by('b', how), null, format('%s: a device that exists is written', how)) from unnest(array['status', 'heartbeat']) how;

select tests.as_owner();
update rollcall.presence_devices set status = 'offline', last_heartbeat_at = now() - interval '1 hour' where device_id = 'b';
update rollcall.presence_devices set status = 'offline', last_heartbeat_at = now() - interval '2 hours' where device_id = 'c';
select tests.as_user(tests.u(1));
select is(tests.says_by('d', 'insert') || tests.devices(), null, 'a new device is written when others are offline');
select is(tests.devices(), 'a b d', 'and replaces the one that was offline longest');
select is(tests.says_by('e', 'heartbeat'), null, 'also by a heartbeat');
select is(tests.devices(), 'a d e', 'which replaces the next');
select is(tests.says_by('f', 'heartbeat'), 'PT409 presence_devices_per_user', 'until all are online');

-- A batch: the refused write changes nothing, the others are written.
select tests.as_owner();
select is((select array_agg(user_id) from rollcall_internal.write_presence(array['status', 'heartbeat'], array[tests.u(1), tests.u(2)], array['g', 'x'],
    array[null, null]::uuid[], array[0, 0], array[true, true], array['dnd', null]::rollcall.presence_status[], array[true, false],
    array['hello', null], array[null, null]::timestamptz[], array[null, null], array[null, null])),
  array[tests.u(2)], 'a batch leaves out the refused write');
select is((select custom_status from rollcall.user_presence where user_id = tests.u(1) and face = 'trusted'), null, 'which changes nothing');
update rollcall.presence_devices set status = 'offline' where user_id = tests.u(1);
select is((select count(*) from tests.write('status', tests.u(1), null, p_status => 'online')), 1::bigint, 'a write without a device is written');
update rollcall.quotas set maximum = 0;
select tests.as_user(tests.u(1));
select is(tests.fails('insert into rollcall.presence_devices (user_id, device_id) select tests.u(1), n from generate_series(1, 50) n'),
  null, 'a DBA may lift the quota');
select * from finish();
rollback;
