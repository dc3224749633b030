-- Why somebody sees somebody: for every setting, relation, block and list the explanation is what `select` as the
-- viewer returns, and names what decides; so too for policies that a DBA adds, changes and drops.
begin;
select plan(22);
select tests.as_owner();

create temp table cases on commit drop as
  select visibility, relation, block, listed, invisible, gen_random_uuid() as subject_id
  from unnest(array['nobody', 'team', 'contacts', 'everyone', null]) as visibility
  cross join unnest(array['stranger', 'pending', 'contact', 'team', 'both', 'invited']) as relation
  cross join unnest(array['none', 'by viewer', 'by subject']) as block
  cross join unnest(array[false, true]) as listed
  cross join unnest(array[false, true]) as invisible;
grant select on cases to public;
insert into rollcall.teams (id, name, owner_id) values (tests.node(50), 'ours', tests.u(101));
insert into rollcall.team_members (team_id, user_id) values (tests.node(50), tests.u(100));
insert into rollcall.team_members (team_id, user_id, accepted_at)
  select tests.node(50), subject_id, case when relation <> 'invited' then now() end from cases where relation in ('team', 'both', 'invited');
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
  select subject_id, tests.u(100), case when relation <> 'pending' then now() end from cases where relation in ('pending', 'contact', 'both');
insert into rollcall.blocks (blocker_id, blocked_id)
  select case block when 'by viewer' then tests.u(100) else subject_id end, case block when 'by viewer' then subject_id else tests.u(100) end
  from cases where block <> 'none';
insert into rollcall.presence_visibility_list (user_id, viewer_id) select subject_id, tests.u(100) from cases where listed;
insert into rollcall.presence_settings (user_id, visibility)
  select subject_id, visibility::rollcall.presence_visibility from cases where visibility is not null;
insert into rollcall.presence_devices (user_id, device_id) select subject_id, 'phone' from cases;
insert into rollcall.presence_choices (user_id, chosen) select subject_id, 'invisible' from cases where invisible;

create temp table told on commit drop as
  select c.*, e.visible, e.face, e.decided_by, e.policy, e.evidence, e.reason
  from cases c cross join lateral rollcall.explain_visibility(tests.u(100), c.subject_id) e;
select is((select current_setting('role')), (select nspowner::regrole::text from pg_namespace where nspname = 'rollcall'),
  'whoever asked is who they were afterwards');
select is((select count(*) from told), (select count(*) from cases), 'one line a subject');
select tests.as_user(tests.u(100));
create temp table seen on commit drop as select p.user_id, p.face from rollcall.user_presence p;
select tests.as_owner();
select is_empty(
  $$ select t.* from told t left join seen s on s.user_id = t.subject_id
     where (t.face, t.visible) is distinct from (s.face, s.user_id is not null) $$,
  'what is explained is what select as the viewer returns');
select isnt_empty('select from seen', '(somebody is seen)');
select is_empty(
  $$ select t.visibility, t.relation, t.block, t.listed, t.decided_by, t.reason from told t
     where t.decided_by <> case
       when block <> 'none' then 'block' when listed then 'list'
       when visibility in ('nobody', 'everyone') then 'setting'
       when visibility = 'team' then case when relation in ('team', 'both', 'invited') then 'team' else 'setting' end
       when relation in ('pending', 'contact', 'both') then 'contact' else 'setting' end $$,
  'and what decides is the first of block, list, setting and relation that applies');
select is_empty(
  $$ select from told where (policy is not null) <> visible or reason = '' or evidence ->> 'table' is distinct from
       case decided_by when 'block' then 'blocks' when 'list' then 'presence_visibility_list' when 'setting' then 'presence_settings'
         when 'contact' then 'contacts' when 'team' then 'team_members' end $$,
  'with the policy that allows it, and the table whose row decides');
select is(
  (select evidence -> 'row' ->> 'blocker_id' from told where block = 'by subject' limit 1),
  (select subject_id::text from told where block = 'by subject' limit 1), 'the deciding row itself is shown');

-- Oneself, strangers to the database, nobody's claims ----------------------------------------------------------------
select tests.says(tests.u(100), 'invisible');
select results_eq(
  $$ select visible, face::text, decided_by from rollcall.explain_visibility(tests.u(100), tests.u(100)) $$,
  $$ values (true, 'trusted', 'self') $$, 'users see themselves');
select results_eq(
  $$ select visible, decided_by from rollcall.explain_visibility(tests.u(100), tests.u(999)) $$,
  $$ values (false, 'never_seen') $$, 'of somebody who was never here there is nothing to see');

-- Policies of a DBA's own --------------------------------------------------------------------------------------------
create temp table one on commit drop as
  select subject_id as id from cases where relation = 'stranger' and block = 'none' and not listed and not invisible and visibility = 'nobody';
grant select on one to public;
create table public.clients (planner_id uuid, vendor_id uuid);
alter table public.clients enable row level security;
grant select on public.clients to authenticated;
create policy "own clients" on public.clients for select to authenticated using (planner_id = (select auth.uid()));
create policy "planners see vendors" on rollcall.user_presence for select to authenticated
  using (face = 'public' and exists (
    select from public.clients c where c.planner_id = (select auth.uid()) and c.vendor_id = user_presence.user_id));
select results_eq($$ select visible, decided_by from one, rollcall.explain_visibility(tests.u(100), one.id) $$,
  $$ values (false, 'setting') $$, 'a policy that does not apply changes nothing');
insert into public.clients select tests.u(100), id from one;
select results_eq($$ select visible, face::text, decided_by, policy from one, rollcall.explain_visibility(tests.u(100), one.id) $$,
  $$ values (true, 'public', 'policy', 'planners see vendors') $$, 'a policy of a DBA that allows it is named');
select ok((select evidence ->> 'planners see vendors' like '%clients%' from one, rollcall.explain_visibility(tests.u(100), one.id)),
  'with its expression');
select results_eq($$ select visible from one, rollcall.explain_visibility(tests.u(99), one.id) $$, $$ values (false) $$,
  'each policy is asked as the viewer: rows of others do not count');
create policy "not at night" on rollcall.user_presence as restrictive for select to authenticated
  using (coalesce(auth.jwt() ->> 'shift', '') = 'day');
select results_eq($$ select visible, decided_by, policy from one, rollcall.explain_visibility(tests.u(100), one.id) $$,
  $$ values (false, 'policy', 'not at night') $$, 'a restrictive policy that forbids it is named');
select results_eq($$ select visible, policy from one, rollcall.explain_visibility(tests.u(100), one.id, '{"shift": "day"}') $$,
  $$ values (true, 'planners see vendors') $$, 'further claims of the viewer can be given');
drop policy "not at night" on rollcall.user_presence;
create policy "broken" on rollcall.user_presence for select to authenticated using (1 / (case when face = 'public' then 0 else 0 end) = 1);
select results_eq($$ select visible, decided_by, evidence ->> 'sqlstate' from one, rollcall.explain_visibility(tests.u(100), one.id) $$,
  $$ values (false, 'error', '22012') $$, 'a policy that fails is an error, as for the viewer');
drop policy "broken" on rollcall.user_presence;
create policy "for admins" on rollcall.user_presence for select to service_role using (true);
select results_eq($$ select visible, policy from one, rollcall.explain_visibility(tests.u(100), one.id) $$,
  $$ values (true, 'planners see vendors') $$, 'policies of other roles do not count');

-- Ours, changed and dropped ------------------------------------------------------------------------------------------
create temp table friend on commit drop as
  select subject_id as id from cases where relation = 'contact' and block = 'none' and not listed and not invisible and visibility is null;
alter policy "viewers read the face shown to them" on rollcall.user_presence using (false);
select results_eq($$ select visible, decided_by, reason from friend, rollcall.explain_visibility(tests.u(100), friend.id) $$,
  $$ values (false, 'policy', 'no policy allows it') $$, 'who would be seen by a policy that was changed is not');
alter policy "viewers read the face shown to them" on rollcall.user_presence using (face = 'public');
select is_empty(
  $$ select e.* from cases c cross join lateral rollcall.explain_visibility(tests.u(100), c.subject_id) e
     where c.block <> 'none' and (not e.visible or e.decided_by <> 'policy') $$,
  'nor is a block said to decide that no longer does');
revoke select on rollcall.user_presence from authenticated;
select results_eq($$ select visible, decided_by from friend, rollcall.explain_visibility(tests.u(100), friend.id) $$,
  $$ values (false, 'grant') $$, 'without the grant nothing is seen');
alter table rollcall.user_presence disable row level security;
select results_eq($$ select distinct decided_by from friend, rollcall.explain_visibility(tests.u(100), friend.id) $$,
  $$ values ('row_level_security') $$, 'and without row-level security everything');
select tests.as_user(tests.u(100));
select throws_ok($$ select from rollcall.explain_visibility(tests.u(1), tests.u(2)) $$, '42501', null, 'users do not ask about others');

select * from finish();
rollback;
