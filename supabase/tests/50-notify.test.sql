-- Who is told that sight has changed: the right viewers and subjects for each table and operation, everybody when
-- policies change, and tables of the DBA's own as soon as a policy mentions them.
begin;
select plan(52);
select tests.as_owner();

-- What was noted since the last look, in one line: viewers > subjects, `all` for null; for groups, relation and group:
-- users that moved.
create temp sequence looked_at;
create function pg_temp.names(p_ids uuid[]) returns text language sql as $$
  select case when p_ids is null then 'all'
    else (select string_agg(ltrim(right(id::text, 12), '0'), ',' order by id) from unnest(p_ids) id) end
$$;
create function pg_temp.noted() returns text language plpgsql as $$
declare v text; v_to bigint;
begin
  select string_agg(distinct coalesce(l.relation || ' ' || ltrim(right(l.group_id, 12), '0') || ':',
      pg_temp.names(l.viewers) || '>') || pg_temp.names(l.subjects), ' '), max(l.id) into v, v_to
    from rollcall_internal.visibility_log l where l.id > currval('pg_temp.looked_at');
  perform setval('pg_temp.looked_at', greatest(currval('pg_temp.looked_at'), v_to));
  return v;
end
$$;
select nextval('pg_temp.looked_at'), setval('pg_temp.looked_at', greatest(1, (select max(id) from rollcall_internal.visibility_log)));

-- Pairs --------------------------------------------------------------------------------------------------------------
insert into rollcall.contacts (requester_id, addressee_id) values (tests.u(1), tests.u(2));
select is(pg_temp.noted(), '1,2>1,2', 'a contact asked for voids both sides'' sight of each other');
update rollcall.contacts set accepted_at = now();
select is(pg_temp.noted(), '1,2>1,2', 'accepted');
update rollcall.contacts set addressee_id = tests.u(3);
select is(pg_temp.noted(), '1,2,3>1,2,3', 'turned into another, the old side too');
delete from rollcall.contacts;
select is(pg_temp.noted(), '1,3>1,3', 'ended');
delete from rollcall.contacts;
select is(pg_temp.noted(), null, 'a statement that changes nothing voids nothing');
insert into rollcall.blocks values (tests.u(1), tests.u(2));
select is(pg_temp.noted(), '1,2>1,2', 'blocked');
delete from rollcall.blocks;
select is(pg_temp.noted(), '1,2>1,2', 'no longer blocked');
insert into rollcall.presence_visibility_list values (tests.u(1), tests.u(2));
select is(pg_temp.noted(), '1,2>1,2', 'listed');
update rollcall.presence_visibility_list set viewer_id = tests.u(3);
select is(pg_temp.noted(), '1,2,3>1,2,3', 'another listed');
delete from rollcall.presence_visibility_list;
select is(pg_temp.noted(), '1,3>1,3', 'unlisted');

-- Groups -------------------------------------------------------------------------------------------------------------
insert into rollcall.teams (id, name, owner_id) values (tests.node(1), 'a', tests.u(9)), (tests.node(2), 'b', tests.u(9));
select is(pg_temp.noted(), null, 'a team without members shows nobody to anybody');
insert into rollcall.team_members (team_id, user_id) values (tests.node(1), tests.u(1)), (tests.node(1), tests.u(2)), (tests.node(2), tests.u(5));
select is(pg_temp.noted(), 'team_members 1:1,2 team_members 2:5', 'members came');
insert into rollcall.team_members (team_id, user_id) values (tests.node(1), tests.u(3));
select is(pg_temp.noted(), 'team_members 1:3', 'who comes; the reader finds the other members');
update rollcall.team_members set accepted_at = null where user_id = tests.u(3);
select is(pg_temp.noted(), 'team_members 1:3', 'whether a membership counts matters');
update rollcall.team_members set team_id = tests.node(2) where user_id = tests.u(3);
select is(pg_temp.noted(), 'team_members 1:3 team_members 2:3', 'who moves leaves some and joins others');
delete from rollcall.team_members where user_id = tests.u(2);
select is(pg_temp.noted(), 'team_members 1:2', 'who leaves');
delete from rollcall.teams where id = tests.node(2);
select is(pg_temp.noted(), 'team_members 2:3,5', 'a team that ends takes its memberships along');
insert into rollcall.conversations (id, created_by) values (tests.node(3), tests.u(1));
insert into rollcall.conversation_participants values (tests.node(3), tests.u(1)), (tests.node(3), tests.u(2));
select is(pg_temp.noted(), 'participants 3:1,2', 'people talk');
delete from rollcall.conversation_participants where user_id = tests.u(2);
select is(pg_temp.noted(), 'participants 3:2', 'one leaves');

-- Subjects -----------------------------------------------------------------------------------------------------------
select tests.says(tests.u(1), 'online');
select is(pg_temp.noted(), 'all>1', 'faces that appear are looked for by everybody');
select tests.says(tests.u(1), 'away'), tests.says(tests.u(1), 'busy'), tests.says(tests.u(1), 'offline');
select is(pg_temp.noted(), null, 'a change of state is not a change of sight');
select tests.says(tests.u(1), 'invisible');
select is(pg_temp.noted(), 'all>1', 'going invisible changes who sees one type');
select tests.says(tests.u(1), 'offline');
select is(pg_temp.noted(), null, '(not again)');
select tests.says(tests.u(1), 'busy');
select is(pg_temp.noted(), 'all>1', 'and so does coming back');
update rollcall.presence_choices set chosen = 'invisible';
select is(pg_temp.noted(), 'all>1', 'by hand as well');
delete from rollcall.presence_choices;
select is(pg_temp.noted(), 'all>1', 'a choice that goes too');
insert into rollcall.presence_settings (user_id) values (tests.u(1));
select is(pg_temp.noted(), 'all>1', 'settings made');
update rollcall.presence_settings set visibility = 'nobody';
select is(pg_temp.noted(), 'all>1', 'changed');
delete from rollcall.presence_settings;
select is(pg_temp.noted(), 'all>1', 'deleted');
delete from rollcall.user_presence where user_id = tests.u(1);
select is(pg_temp.noted(), 'all>1', 'faces that go');
select rollcall_internal.refresh_faces(array[tests.u(1)]);
select is(pg_temp.noted() || ' ' || tests.face(tests.u(1), 'public'), 'all>1 online/online', 'and are mended by a refresh');

-- Many and all -----------------------------------------------------------------------------------------------------------
insert into rollcall.blocks select tests.u(1), tests.u(n) from generate_series(2000, 3000) n;
select is(pg_temp.noted(), 'all>all', 'more than a thousand are noted as all');
select rollcall.invalidate_visibility(array(select tests.u(n) from generate_series(1, 1001) n), array[tests.u(1)], 'x');
select is(pg_temp.noted(), 'all>all', 'too many viewers of one subject may lack a relation to it, so all are asked');
select rollcall.invalidate_visibility(null, array[tests.u(1)], 'x');
select is(pg_temp.noted(), 'all>all', 'no viewers stand for all, also those without a relation to the subject');
select rollcall.invalidate_visibility(array[tests.u(1)], array(select tests.u(n) from generate_series(1, 1001) n), 'x');
select is(pg_temp.noted(), '1>all', 'a viewer of too many subjects is asked about all');
insert into rollcall.teams (id, name, owner_id) select tests.node(n), 'c', tests.u(9) from generate_series(5001, 6001) n;
insert into rollcall.team_members (team_id, user_id)
  select tests.node(5001), tests.u(n) from generate_series(2000, 2999) n;
select is((select count(*) from rollcall_internal.visibility_log l where l.id > currval('pg_temp.looked_at')
  and l.relation = 'team_members' and l.group_id = tests.node(5001)::text and cardinality(l.subjects) = 1000), 1::bigint,
  'a thousand new members are one row');
select setval('pg_temp.looked_at', (select max(id) from rollcall_internal.visibility_log));
insert into rollcall.team_members (team_id, user_id)
  select tests.node(5002), tests.u(n) from generate_series(2000, 3000) n;
select is(pg_temp.noted(), 'all>all', 'more than a thousand new members of one group are noted as all');
insert into rollcall.team_members (team_id, user_id) select tests.node(n), tests.u(1) from generate_series(5001, 6001) n;
select is(pg_temp.noted(), 'all>all', 'and a user in more than a thousand groups');
select set_eq($q$select unnest(rollcall_internal.members_of_group('team_members', tests.node(5003)::text))$q$,
  array[tests.u(1)], 'members are read when they are asked for');
do $$
declare v text;
begin
  foreach v in array array['contacts', 'blocks', 'presence_visibility_list', 'presence_settings', 'team_members',
    'conversation_participants', 'presence_choices', 'typing_indicators', 'user_presence'] loop
    execute format('truncate rollcall.%I', v);
    if pg_temp.noted() not like '%all>all%' then raise exception 'truncate of % was not noted', v; end if;
  end loop;
end
$$;
select pass('a truncate of any table is noted as all');

-- Policies -----------------------------------------------------------------------------------------------------------
select ok(exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch' and evtenabled = 'O'), 'DDL is watched');
select is(rollcall_internal.policies_read_state(), false, 'our policies do not depend on the state of a row');
create table public.own_source (viewer_id uuid, subject_id uuid);
create table public.own_hidden_source (viewer_id uuid, subject_id uuid);
create table public.own_unrelated (id int);
select setval('pg_temp.looked_at', (select max(id) from rollcall_internal.visibility_log));
create policy mine on rollcall.user_presence for select to authenticated
  using (exists (select from public.own_source o where o.viewer_id = auth.uid() and o.subject_id = user_presence.user_id));
select is(pg_temp.noted(), 'all>all', 'a new policy voids all sight');
select is((select count(*) from pg_trigger where tgrelid = 'public.own_source'::regclass and tgname = 'rollcall_watch'), 1::bigint,
  'the table that it mentions is watched');
insert into public.own_source values (tests.u(1), tests.u(2));
select is(pg_temp.noted(), '1>2', 'and each of its changes invalidates the users that it concerns');
insert into public.own_unrelated values (1);
select is(pg_temp.noted(), null, 'a table that no policy mentions is not watched');
alter policy mine on rollcall.user_presence using (status = 'online');
select ok(rollcall_internal.policies_read_state() and pg_temp.noted() = 'all>all', 'a policy on the state of a row is known as such');
drop policy mine on rollcall.user_presence;
select is(pg_temp.noted(), 'all>all', 'a policy that goes voids all sight');

-- Through functions: one with its text, which calls another.
create function public.own_inner(p uuid) returns boolean language plpgsql stable security definer set search_path = ''
as $$ begin return exists (select from public.own_hidden_source h where h.subject_id = p); end $$;
create function public.own_outer(p uuid) returns boolean language sql stable as $$ select public.own_inner(p) $$;
create policy mine on rollcall.user_presence for select to authenticated using (public.own_outer(user_id));
select is((select count(*) from pg_trigger where tgrelid = 'public.own_hidden_source'::regclass and tgname = 'rollcall_watch'), 1::bigint,
  'a table hidden in functions is found');
create table public.own_parts (subject_id uuid) partition by hash (subject_id);
create or replace function public.own_inner(p uuid) returns boolean language plpgsql stable security definer set search_path = ''
as $$ begin return exists (select from public.own_parts h where h.subject_id = p); end $$;
create table public.own_part partition of public.own_parts for values with (modulus 1, remainder 0);
select is((select count(*) from pg_trigger where tgrelid in ('public.own_part'::regclass, 'public.own_parts'::regclass) and tgname = 'rollcall_watch'),
  2::bigint, 'so is one that a function is changed to, and its partitions');
select setval('pg_temp.looked_at', (select max(id) from rollcall_internal.visibility_log));
grant select on public.own_parts to authenticated;
select is(pg_temp.noted(), 'all>all', 'a grant voids all sight');

-- Where no event trigger may be made, a fingerprint tells of the same.
create temp table prints on commit drop as select 0 as step, rollcall_internal.policy_fingerprint() as print;
-- (What was made in this transaction cannot be told from what it was changed to in it; nobody else could have read it.)
alter policy "own last seen" on rollcall.user_last_seen using (user_id = (select auth.uid()));
insert into prints select 1, rollcall_internal.policy_fingerprint();
alter function rollcall.my_teams() cost 200;
insert into prints select 2, rollcall_internal.policy_fingerprint();
revoke select on rollcall.user_presence from authenticated;
insert into prints select 3, rollcall_internal.policy_fingerprint();
drop policy mine on rollcall.user_presence;
insert into prints select 4, rollcall_internal.policy_fingerprint();
alter table public.own_source enable row level security;
insert into prints select 5, rollcall_internal.policy_fingerprint();
select is((select count(distinct print) from prints), 6::bigint, 'the fingerprint changes with policies, functions, grants and row-level security');

select * from finish();
rollback;
