-- What a stranger and a blocked user learn about others: every function, table and view of Rollcall that anon or
-- authenticated can reach answers the same, whatever the subject does. Taken from the catalog, so new ones are included.
begin;
select plan(19);
select tests.as_owner();

-- Users 1 to 5 know neither viewer. Users 11 to 15 show themselves to everyone, and have blocked user 31.
create temp table subjects on commit drop as
  select v.viewer, v.first + s.n as n, tests.u(v.first + s.n) as id, s.state
  from (values (30, 0), (31, 10)) v (viewer, first)
  cross join (values (1, 'online'), (2, 'offline'), (3, 'invisible'), (4, 'has blocked'), (5, 'unknown')) s (n, state);
select tests.says(id, 'online') from subjects where state <> 'unknown';
select tests.says(id, 'offline') from subjects where state = 'offline';
select tests.says(id, 'invisible') from subjects where state = 'invisible';
select tests.says(tests.u(30), 'online'), tests.says(tests.u(31), 'online');
insert into rollcall.presence_settings (user_id, visibility)
  select id, 'everyone' from subjects where viewer = 31 and state <> 'unknown';
insert into rollcall.blocks (blocker_id, blocked_id)
  select id, tests.u(viewer) from subjects where state <> 'unknown' and (viewer = 31 or state = 'has blocked');

-- Contacts of user 32, and users that would show themselves to everyone but user 33: none of them has a face to show.
insert into subjects
  select v.viewer, v.first + s.n, tests.u(v.first + s.n), s.state
  from (values (32, 40), (33, 50)) v (viewer, first)
  cross join (values (1, 'blocks, is online'), (2, 'blocks, is offline'), (3, 'blocks, has no face'), (4, 'has no face'),
    (5, 'shows nobody')) s (n, state);
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
  select tests.u(32), id, now() from subjects where viewer = 32;
insert into rollcall.presence_settings (user_id, visibility)
  select id, (case when state = 'shows nobody' then 'nobody' when viewer = 33 then 'everyone' else 'contacts'
    end)::rollcall.presence_visibility from subjects where viewer in (32, 33);
select tests.says(id, 'online') from subjects where state in ('blocks, is online', 'blocks, is offline', 'shows nobody');
select tests.says(id, 'offline') from subjects where state = 'blocks, is offline';
select tests.says(tests.u(32), 'online'), tests.says(tests.u(33), 'online');
insert into rollcall.blocks (blocker_id, blocked_id)
  select id, tests.u(viewer) from subjects where state like 'blocks%';
delete from rollcall.user_presence where user_id in (select id from subjects where state like '%has no face');
-- Deleted more than two minutes ago.
delete from rollcall_internal.visibility_log;

-- One call with the subject wherever an ID or text is taken.
create temp table calls on commit drop as
  select r.role, p.oid::regprocedure::text as name, p.proretset, p.prorettype = 'trigger'::regtype as is_trigger,
    format('select coalesce(jsonb_agg(to_jsonb(r)), ''[]'')::text from %s(%s) r', p.oid::regproc, (
      select string_agg(case
          when a.type = 'uuid'::regtype then '%1$L::uuid'
          when a.type = 'uuid[]'::regtype then 'array[%1$L::uuid]'
          when a.type = 'text'::regtype then '%1$L'
          when a.type = 'text[]'::regtype then 'array[%1$L]'
          when a.type = 'jsonb'::regtype then 'jsonb_build_array(%1$L)'
          when a.type = 'boolean'::regtype then 'true'
          when a.type in ('integer'::regtype, 'bigint'::regtype) then '5::' || a.type::regtype
          when t.typtype = 'e' then format('(enum_range(null::%s))[2]', a.type::regtype)
          else 'null::' || a.type::regtype
        end, ', ' order by a.place)
      from unnest(p.proargtypes::oid[]) with ordinality a (type, place) join pg_type t on t.oid = a.type)) as call
  from pg_proc p
  cross join (values ('anon'), ('authenticated')) r (role)
  where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace, 'realtime'::regnamespace)
    and p.prokind = 'f' and has_schema_privilege(r.role, p.pronamespace, 'usage')
    and has_function_privilege(r.role, p.oid, 'execute')
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  union all
  select r.role, c.oid::regclass::text, true, false,
    format('select count(*)::text from %s r where strpos(to_jsonb(r)::text, %s) > 0', c.oid::regclass, '%1$L')
  from pg_class c
  cross join (values ('anon'), ('authenticated')) r (role)
  where c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace, 'realtime'::regnamespace)
    and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and has_schema_privilege(r.role, c.relnamespace, 'usage') and has_any_column_privilege(r.role, c.oid, 'select')
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e');
delete from calls where is_trigger;

-- The answer, undone, without times, versions and IDs, which differ from call to call.
create function pg_temp.answer(p_call text, p_subject uuid) returns text language plpgsql
as $$
declare
  v_got text;
begin
  begin
    execute format(p_call, p_subject) into v_got;
    raise exception using errcode = 'RB000', message = coalesce(v_got, 'null');
  exception when others then
    v_got := case when sqlstate = 'RB000' then sqlerrm else sqlstate || ' ' || sqlerrm end;
  end;
  v_got := regexp_replace(replace(v_got, p_subject::text, 'SUBJECT'), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'ID', 'g');
  v_got := regexp_replace(regexp_replace(v_got, '\d{4}-\d\d-\d\dT[0-9:.+]+', 'TIME', 'g'), '"version": \d+', '"version": N', 'g');
  -- The place of the subject in a list is no answer.
  return (select string_agg(part, ' ' order by part) from regexp_split_to_table(v_got, '[][{},[:space:]]+') part);
end
$$;
create temp table answers (viewer int, role text, name text, state text, answer text) on commit drop;
do $$
declare
  v_call record;
  v_subject record;
  v_got text;
begin
  for v_call in select * from pg_temp.calls loop
    for v_subject in select * from pg_temp.subjects loop
      if v_call.role = 'anon' then perform tests.as_role('anon'); else perform tests.as_user(tests.u(v_subject.viewer)); end if;
      v_got := pg_temp.answer(v_call.call, v_subject.id);
      perform tests.as_owner();
      insert into pg_temp.answers values (v_subject.viewer, v_call.role, v_call.name, v_subject.state, v_got);
    end loop;
  end loop;
end
$$;
select is_empty(format(
    $$ select name, state, answer from answers a where viewer = %1$s and role = %2$L and exists (
         select from answers o where o.viewer = a.viewer and o.role = a.role and o.name = a.name and o.answer <> a.answer)
       order by name, state $$, v.viewer, v.role),
  format('%s as %s: all answers are equal', v.who, v.role))
from (values (30, 'a stranger', 'anon'), (30, 'a stranger', 'authenticated'),
  (31, 'a blocked user', 'anon'), (31, 'a blocked user', 'authenticated'),
  (32, 'a contact', 'anon'), (32, 'a contact', 'authenticated'),
  (33, 'a stranger to public users', 'anon'), (33, 'a stranger to public users', 'authenticated')) v (viewer, who, role);
-- A call that fails for everybody would hide what it tells. The first three cannot succeed here; the others are second halves, which
-- require a write of the caller before them, and take no user.
select is_empty(
  $$ select distinct name, answer from answers
     where answer ~ '^[0-9A-Z]{5} ' and answer not like '42501 permission denied%'
       and name !~ '^(realtime.broadcast_changes|rollcall.merge_embeddings|rollcall.search|rollcall.begin_turn|rollcall.record_(heartbeat|sign_off|forgetting))\(' and role = 'authenticated' $$,
  'the other calls are answered');
select is_empty($$
    select role from answers group by role having count(*) <> 20 * count(distinct name) $$,
  'every call is made for every subject');
select is((select count(distinct name) > 0 from answers where name = 'rollcall.can_see_user(uuid)'), true, 'functions that policies call by name are among them');
select is((select count(distinct name) > 0 from answers where name = 'rollcall.user_presence'), true, 'tables are among them');

-- What the policy of typing asks has no name for API roles.
select tests.as_user(tests.u(30));
select throws_ok($$ select rollcall_internal.can_see_typing(tests.u(3)) $$, '42501', null, 'nobody asks whether somebody may be seen typing');
select is((select count(*) from rollcall.typing_indicators), 0::bigint, 'and the policy still answers');

-- Who has a face is seen, by contacts and by everybody; a face that was just deleted is seen to have gone.
select tests.as_owner();
delete from rollcall.blocks where blocker_id in (tests.u(41), tests.u(51));
select tests.as_user(tests.u(32));
select results_eq('select subject_id from rollcall.my_visible_users()', 'select tests.u(41)', 'a contact with a face is listed');
select tests.as_user(tests.u(33));
select ok(rollcall.can_see_user(tests.u(51)), 'a public user with a face is seen');
select tests.as_owner();
delete from rollcall.user_presence where user_id in (tests.u(41), tests.u(51));
select tests.as_user(tests.u(32));
select results_eq('select subject_id from rollcall.my_visible_users()', 'select tests.u(41)', 'a contact whose face was just deleted is listed');
select tests.as_user(tests.u(33));
select ok(rollcall.can_see_user(tests.u(51)), 'a public user whose face was just deleted is seen');
select ok(not rollcall.can_see_user(tests.u(52)), 'but not one that blocks the caller');

select * from finish();
rollback;
