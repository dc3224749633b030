-- What users read contains no number that the activity of other users moves: versions count per row.
begin;
select plan(11);
select tests.as_owner();

-- User 40 sees user 41. Users 42 to 44 are invisible, unrelated, or have blocked user 40.
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
  select tests.u(40), tests.u(n), now() from unnest(array[41, 42]) n;
insert into rollcall.blocks (blocker_id, blocked_id) values (tests.u(44), tests.u(40));
select tests.says(tests.u(n), 'online') from generate_series(40, 44) n;
select tests.says(tests.u(42), 'invisible');

create function pg_temp.hidden_users_act() returns void language plpgsql
as $$
begin
  for turn in 1..10 loop
    perform tests.says(tests.u(n), status) from unnest(array[43, 44]) n,
      unnest(array['away', 'busy', 'online']::rollcall.presence_status[]) status;
    perform tests.write('status', tests.u(42), 'phone', p_status => 'invisible', p_activity => 'step ' || turn);
    update rollcall.presence_devices set last_navigation_path = '/step/' || turn where user_id = tests.u(42);
  end loop;
end
$$;
-- What user 40 reads of everybody.
create function pg_temp.seen() returns setof rollcall.user_presence language plpgsql
as $$
begin
  perform tests.as_user(tests.u(40));
  return query select * from rollcall.user_presence order by user_id;
  perform tests.as_owner();
end
$$;
create temp table seen as select * from pg_temp.seen();
select is((select count(*) from seen), 3::bigint, 'the viewer reads its own row and those of two contacts');

select pg_temp.hidden_users_act();
select results_eq('select * from pg_temp.seen()', 'select * from seen', 'hidden activity changes nothing that the viewer reads');
select tests.says(tests.u(41), 'away');
select is(tests.version(tests.u(41), 'public') - (select version from seen where user_id = tests.u(41)), 1::bigint,
  'after hidden activity, the next version of a visible user is the next number');
select pg_temp.hidden_users_act();
update rollcall.user_presence set status = 'dnd' where user_id = tests.u(41) and face = 'public';
select is(tests.version(tests.u(41), 'public') - (select version from seen where user_id = tests.u(41)), 2::bigint,
  'also when SQL changes the face');
select tests.says(tests.u(40), 'away');
select is(tests.version(tests.u(40), 'trusted') - (select version from seen where user_id = tests.u(40)), 1::bigint,
  'and so is that of the viewer itself');

-- Order ------------------------------------------------------------------------------------------------------------
create temp table before as select user_id, face, version from rollcall.user_presence where user_id = tests.u(41);
delete from rollcall.user_presence where user_id = tests.u(41);
select tests.says(tests.u(41), 'busy');
select is((select count(*) from before b where tests.version(b.user_id, b.face) > b.version), 2::bigint,
  'faces that are created again have higher versions');
insert into before select user_id, face, version from rollcall.user_presence where user_id = tests.u(41);
select rollcall.forget(tests.u(41));
select is(tests.face(tests.u(41), 'public'), null, 'a forgotten user has no face');
select tests.says(tests.u(41), 'online');
select is((select count(*) from before b where tests.version(b.user_id, b.face) <= b.version), 0::bigint,
  'also after the user was forgotten');

create temp table signals (place int, version bigint);
do $$
begin
  for place in 1..5 loop
    update rollcall.presence_devices set last_navigation_path = '/' || place where user_id = tests.u(40);
    insert into pg_temp.signals select place, context_version from rollcall.presence_devices where user_id = tests.u(40);
  end loop;
end
$$;
select is((select count(*) from signals s join signals o on o.place < s.place and o.version >= s.version), 0::bigint,
  'versions of context signals increase');

-- Kind -------------------------------------------------------------------------------------------------------------
-- Rows of messages and of the user''s own background work are numbered; a row appears only with its user''s own action.
select is_empty($$
    select a.attrelid::regclass, a.attname from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid in (select c.oid from pg_class c where c.relnamespace = 'rollcall'::regnamespace and c.relkind in ('r', 'p'))
      and (a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) ~ 'nextval')
      and has_column_privilege('authenticated', a.attrelid, a.attnum, 'select')
      and (a.attrelid::regclass::text, a.attname) not in (('rollcall.messages', 'message_index'), ('rollcall.system_actions', 'id')) $$,
  'no other column that users read is numbered over all users');
select is_empty($$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace) and p.prosrc ~ 'nextval' $$,
  'nor does a function number what it writes');

select * from finish();
rollback;
