-- How often a user may say a status by function.
begin;
select plan(19);
-- Says a status as user 1; what it comes to, or the error.
create function tests.say(p_status rollcall.presence_status, p_custom text default null) returns text language plpgsql as $$
begin
  return (select status::text from rollcall.set_my_status(p_status, 'phone', p_custom is not null, p_custom));
exception when sqlstate 'PT429' then return sqlstate;
end
$$;
grant execute on function tests.say to authenticated;
-- How many more are allowed at once.
create function tests.left_over() returns numeric language sql as $$
  select 10 - ceil(extract(epoch from greatest(a.full_at, clock_timestamp()) - clock_timestamp()) / 6) from rollcall_internal.rate_limits a where a.user_id = tests.u(1) and a.key = 'status_updates'
$$;

select tests.as_user(tests.u(1));
select is(tests.say(case when n % 2 = 0 then 'away' else 'online' end::rollcall.presence_status), case when n % 2 = 0 then 'away' else 'online' end,
  format('status %s is allowed', n)) from generate_series(1, 10) n;
select is(tests.say('away'), 'away', 'a repeat of what holds is no update');
select is(tests.say('busy'), 'PT429', 'the eleventh is refused');
select is((select array_agg(chosen) from rollcall.presence_choices), null, 'and changes nothing');
select tests.as_owner();
select is(tests.left_over(), 0::numeric, 'nor does it count');
select throws_like($$ select tests.as_user(tests.u(1)), rollcall.set_my_status('busy') $$, 'too many status updates, try again in _ s', 'it says when to come back');
select tests.as_owner();
update rollcall_internal.rate_limits set full_at = full_at - interval '6 seconds';
select tests.as_user(tests.u(1));
select is(tests.say('busy') || ' ' || tests.say('dnd'), 'busy PT429', 'six seconds later one more is allowed');
select tests.as_user(tests.u(2));
select is(tests.say('dnd'), 'dnd', 'another user has another allowance');

select tests.as_owner();
update rollcall.limits set per_minute = 0;
select tests.as_user(tests.u(1));
select is(tests.say('dnd'), 'dnd', 'a DBA may lift the limit');

select tests.as_owner();
update rollcall_internal.rate_limits set full_at = now() - interval '1 minute' where user_id = tests.u(1);
select rollcall_internal.purge_expired();
select is((select array_agg(distinct user_id) from rollcall_internal.rate_limits), array[tests.u(2)], 'an allowance that is whole is forgotten');
select * from finish();
rollback;
