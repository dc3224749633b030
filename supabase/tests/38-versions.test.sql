-- What users read contains no number that the activity of other users moves: versions count per row.
begin;
select plan(18);
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

-- Messages -----------------------------------------------------------------------------------------------------------
insert into rollcall.conversations (id, created_by) values (tests.u(50), tests.u(40)), (tests.u(51), tests.u(43));
insert into rollcall.conversation_participants (conversation_id, user_id)
  values (tests.u(50), tests.u(40)), (tests.u(51), tests.u(43));
create function pg_temp.say(p_conversation uuid, p_user uuid, p_count int default 1) returns void language sql
as $$
  insert into rollcall.messages (conversation_id, user_id, content)
    select p_conversation, p_user, n::text from generate_series(1, p_count) n
$$;
-- The highest index of a conversation.
create function pg_temp.last_index(p_conversation uuid) returns bigint language sql
as $$ select max(message_index) from rollcall.messages where conversation_id = p_conversation $$;

select pg_temp.say(tests.u(51), tests.u(43), 500);
select pg_temp.say(tests.u(50), tests.u(40), 500);
select is(array_agg(content::int order by message_index), array(select generate_series(1, 500)),
  'messages of one statement are numbered in their order') from rollcall.messages where conversation_id = tests.u(50);
select is(count(distinct message_index), 500::bigint, 'with different numbers')
  from rollcall.messages where conversation_id = tests.u(50);
-- With a clock that was set back, the last message is of the future.
insert into rollcall.messages (conversation_id, user_id, content, message_index)
  values (tests.u(50), tests.u(40), 'of the future', 9000000000000000);
select tests.as_user(tests.u(40));
select pg_temp.say(tests.u(50), tests.u(40));
select tests.as_owner();
select is(pg_temp.last_index(tests.u(50)), 9000000000000001, 'the next number is above the last one of the conversation');
select pg_temp.say(tests.u(51), tests.u(43), 500);
select tests.as_user(tests.u(40));
select pg_temp.say(tests.u(50), tests.u(40));
select tests.as_owner();
select is(pg_temp.last_index(tests.u(50)), 9000000000000002, 'whatever is written in other conversations');

-- Kind -------------------------------------------------------------------------------------------------------------
-- Tables, partitions and views of the schema. A column of a view counts as every column that the view reads.
create temp view readable as
  select c.oid as relation, a.attname as name, b.attrelid as base, b.attnum as number, b.attidentity as identity
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  cross join lateral (
    select c.oid as relation, a.attnum as number where c.relkind in ('r', 'p')
    union all
    select d.refobjid, d.refobjsubid from pg_rewrite r
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    where c.relkind in ('v', 'm') and r.ev_class = c.oid and d.refobjid <> c.oid and d.refobjsubid > 0
  ) source
  join pg_attribute b on b.attrelid = source.relation and b.attnum = source.number
  where c.relnamespace = 'rollcall'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
    and (has_column_privilege('anon', c.oid, a.attnum, 'select')
      or has_column_privilege('authenticated', c.oid, a.attnum, 'select'));
select cmp_ok((select count(distinct relation) from readable), '>', 20::bigint, 'users read tables and views');
create function pg_temp.numbered() returns table (relation regclass, name name) language sql
as $$
  select distinct r.relation::regclass, r.name from readable r
  left join pg_attrdef d on d.adrelid = r.base and d.adnum = r.number
  where r.identity <> ''
    or exists (select from pg_depend p where p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
      and p.refclassid = 'pg_class'::regclass
      and p.refobjid in (select s.oid from pg_class s where s.relkind = 'S'))
    or pg_get_expr(d.adbin, d.adrelid) ~* 'nextval|txid|xact|_lsn'
$$;
select is_empty('select * from pg_temp.numbered()', 'no column that users read is numbered over all users');
-- The check itself finds each kind.
create sequence pg_temp.numbers;
create table rollcall.t_numbered (a int generated always as identity, b bigint default nextval('pg_temp.numbers'), c int);
create view rollcall.v_numbered as select c, b + 1 as d from rollcall.t_numbered;
grant select (a, b, c) on rollcall.t_numbered to authenticated;
grant select on rollcall.v_numbered to anon;
select set_eq('select relation::text, name::text from pg_temp.numbered()',
  $$ values ('rollcall.t_numbered', 'a'), ('rollcall.t_numbered', 'b'), ('rollcall.v_numbered', 'c'), ('rollcall.v_numbered', 'd') $$,
  'the check finds such columns of tables and views');
drop view rollcall.v_numbered;
drop table rollcall.t_numbered;
select is_empty($$
    select c.oid::regclass from pg_class c
    where c.relkind = 'S' and c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
      and exists (select from unnest(array['anon', 'authenticated']) r where has_sequence_privilege(r, c.oid, 'select, usage')) $$,
  'nor may users read a sequence');
select is_empty($$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
      and p.prosrc ~* '(nextval|lastval|currval|setval)\s*\(' $$,
  'nor does a function number what it writes');

select * from finish();
rollback;
