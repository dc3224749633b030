-- Functions for the caller's own presence obey the write policies that a DBA adds to presence_devices.
begin;
select plan(27);
create temp table suspended (user_id uuid) on commit drop;
grant all on suspended to public;
-- The error of a statement, or null. The devices of user 1.
create function tests.fails(p_statement text) returns text language plpgsql as $$
begin
  execute p_statement;
  return null;
exception when others then return sqlstate;
end
$$;
create function tests.state() returns text language sql security definer as $$
  select coalesce(string_agg(d::text, ' ' order by d.device_id), '') from rollcall.presence_devices d where d.user_id = tests.u(1)
$$;
create function tests.unchanged(p_statement text) returns text language plpgsql as $$
declare v_before constant text := tests.state(); v_error constant text := tests.fails(p_statement);
begin
  return v_error || case when tests.state() = v_before then ' unchanged' else ' changed' end;
end
$$;
grant execute on function tests.fails, tests.state, tests.unchanged to authenticated;

create function tests.restrict(p_command text) returns void language plpgsql as $$
begin
  execute format('drop policy if exists restricted on rollcall.presence_devices');
  execute format('create policy restricted on rollcall.presence_devices as restrictive for %s to authenticated %s', p_command,
    case p_command when 'insert' then 'with check' else 'using' end || ' (user_id not in (select user_id from suspended))');
end
$$;
create function tests.refuse() returns trigger language plpgsql as $$ begin return null; end $$;

select tests.as_user(tests.u(1));
select ok(rollcall.heartbeat_mine('phone', true), 'a device');
select ok(rollcall.heartbeat_mine('tablet', true), 'and another');
select tests.as_owner();
insert into suspended values (tests.u(1));
-- So that a heartbeat writes.
select tests.rewind(tests.u(1), '6 seconds');

-- Each kind of restrictive policy against each function.
select tests.restrict('all'), tests.as_user(tests.u(1));
select is(tests.unchanged($$ select rollcall.heartbeat_mine('phone', true) $$), '42501 unchanged', 'all: no heartbeat');
select is(tests.unchanged($$ select rollcall.heartbeat_mine('new') $$), '42501 unchanged', 'all: no new device');
select ok(not rollcall.sign_off_mine('phone'), 'all: a hidden device is not signed off');
select is(tests.unchanged($$ select rollcall.record_sign_off('phone') $$), '42501 unchanged', 'all: nor by its second half alone');
select is(tests.unchanged($$ select rollcall.record_heartbeat('phone', true) $$), '42501 unchanged', 'all: no heartbeat by its second half alone');
select is(tests.unchanged($$ select rollcall.forget_me() $$), '42501 unchanged', 'all: nothing is erased');
select is(tests.unchanged($$ select rollcall.record_forgetting() $$), '42501 unchanged', 'all: nor by its second half alone');

select tests.as_owner(), tests.restrict('update'), tests.as_user(tests.u(1));
select is(tests.unchanged($$ select rollcall.heartbeat_mine('phone') $$), '42501 unchanged', 'update: no heartbeat');
select is(tests.unchanged($$ select rollcall.sign_off_mine('phone') $$), '42501 unchanged', 'update: no sign-off');
select is(tests.fails($$ select rollcall.heartbeat_mine('watch') $$), null, 'update: a new device may be made');

select tests.as_owner(), tests.restrict('insert'), tests.as_user(tests.u(1));
select ok(rollcall.heartbeat_mine('phone'), 'insert: a device that exists may be kept alive');
select is(tests.unchanged($$ select rollcall.heartbeat_mine('new') $$), '42501 unchanged', 'insert: no new device');
select ok(rollcall.sign_off_mine('watch'), 'insert: a device may be signed off');

select tests.as_owner(), tests.restrict('delete'), tests.as_user(tests.u(1));
select is(tests.unchanged($$ select rollcall.forget_me() $$), '42501 unchanged', 'delete: nothing is erased');
select ok(rollcall.heartbeat_mine('phone'), 'delete: a device may be kept alive');
select ok(rollcall.sign_off_mine('phone'), 'delete: a device may be signed off');

-- A trigger of the DBA decides too.
select tests.as_owner();
create trigger refuse before update on rollcall.presence_devices for each row execute function tests.refuse();
select tests.as_user(tests.u(1));
select is(tests.unchanged($$ select rollcall.heartbeat_mine('tablet') $$), '42501 unchanged', 'a trigger that drops the write stops the heartbeat');
select is(tests.unchanged($$ select rollcall.sign_off_mine('tablet') $$), '42501 unchanged', 'and the sign-off');
select tests.as_owner();
drop trigger refuse on rollcall.presence_devices;

-- A write of an earlier transaction is no proof; here, of an earlier subtransaction that was rolled back.
select tests.as_user(tests.u(1));
do $$ begin
  begin
    perform rollcall.touch_device('tablet', false);
    raise exception 'undo';
  exception when raise_exception then null;
  end;
end $$;
select is(tests.unchanged($$ select rollcall.record_sign_off('tablet') $$), '42501 unchanged', 'a write that was rolled back is no proof');

-- Other users are not concerned, and everything works without the policy.
select tests.as_user(tests.u(2));
select ok(rollcall.heartbeat_mine('phone'), 'another user is not concerned');
select ok(rollcall.sign_off_mine('phone'), 'also when signing off');
select ok((rollcall.forget_me() ->> 'presence_devices')::int = 1, 'or leaving');
select tests.as_owner();
truncate suspended;
select tests.as_user(tests.u(1));
select is(rollcall.forget_me() -> 'presence_devices', '3'::jsonb, 'without a reason everything is erased, and counted');
select tests.as_owner();
select is((select count(*) from rollcall.user_presence where user_id in (tests.u(1), tests.u(2))), 0::bigint, 'no face is left');
select is((select count(*) from rollcall.user_last_seen where user_id in (tests.u(1), tests.u(2))), 0::bigint, 'nor a time');
select * from finish();
rollback;
