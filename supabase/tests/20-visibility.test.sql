-- Who sees which face, for every setting, relation, block and list. One viewer, one subject a case; the rule is written
-- down a second time here, as a table of expectations and not as a query over the tables that the policy reads.
begin;
select plan(15);
select tests.as_owner();

create type pg_temp.relation as enum ('stranger', 'pending', 'requester', 'addressee', 'team', 'both', 'conversation', 'invited');
create temp table cases on commit drop as
  select row_number() over () as n, visibility, relation, block, listed, invisible,
    gen_random_uuid() as subject_id,
    case
      when block <> 'none' then null
      when listed then 'trusted'
      when visibility = 'everyone' then 'public'
      -- No row of settings means contacts.
      when coalesce(visibility, 'contacts') = 'contacts' and relation in ('requester', 'addressee', 'both') then 'public'
      when visibility = 'team' and relation in ('team', 'both') then 'public'
    end as expected
  from unnest(array['nobody', 'team', 'contacts', 'everyone', null]) as visibility
  cross join unnest(enum_range(null::pg_temp.relation)) as relation
  cross join unnest(array['none', 'by viewer', 'by subject', 'both ways']) as block
  cross join unnest(array[false, true]) as listed
  cross join unnest(array[false, true]) as invisible;
grant select on cases to public;

create temp table me on commit drop as select tests.u(100) as id;
insert into rollcall.teams (id, name, owner_id) values (tests.node(50), 'ours', tests.u(101));
insert into rollcall.team_members (team_id, user_id) select tests.node(50), id from me;
insert into rollcall.team_members (team_id, user_id) select tests.node(50), subject_id from cases where relation in ('team', 'both');
insert into rollcall.team_members (team_id, user_id, accepted_at) select tests.node(50), subject_id, null from cases where relation = 'invited';
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
  select case when relation = 'requester' then c.subject_id else me.id end,
    case when relation = 'requester' then me.id else c.subject_id end,
    case when relation <> 'pending' then now() end
  from cases c, me where relation in ('pending', 'requester', 'addressee', 'both');
insert into rollcall.conversations (id, created_by) values (tests.node(51), tests.u(101));
insert into rollcall.conversation_participants (conversation_id, user_id) select tests.node(51), id from me;
insert into rollcall.conversation_participants (conversation_id, user_id)
  select tests.node(51), subject_id from cases where relation = 'conversation';
insert into rollcall.blocks (blocker_id, blocked_id)
  select me.id, subject_id from cases, me where block in ('by viewer', 'both ways')
  union all select subject_id, me.id from cases, me where block in ('by subject', 'both ways');
insert into rollcall.presence_visibility_list (user_id, viewer_id) select subject_id, me.id from cases, me where listed;
insert into rollcall.presence_settings (user_id, visibility)
  select subject_id, visibility::rollcall.presence_visibility from cases where visibility is not null;
insert into rollcall.presence_devices (user_id, device_id, activity) select subject_id, 'phone', 'reading' from cases;
insert into rollcall.presence_choices (user_id, chosen) select subject_id, 'invisible' from cases where invisible;

select tests.as_user(tests.u(100));
select is((select count(*) from cases), 640::bigint, 'there are 640 cases');
select is_empty(
  $$ select c.visibility, c.relation, c.block, c.listed, c.invisible, c.expected, p.face
     from cases c left join rollcall.user_presence p on p.user_id = c.subject_id
     where p.face::text is distinct from c.expected $$,
  'each case shows the face that it should, or none');
select is_empty($$ select user_id from rollcall.user_presence group by user_id having count(*) > 1 $$, 'at most one face a user');
select is_empty(
  $$ select c.visibility, c.relation, p.status from cases c join rollcall.user_presence p on p.user_id = c.subject_id
     where p.face = 'public' and c.invisible and (p.status <> 'offline' or p.activity is not null) $$,
  'whoever sees the public face sees an invisible user as offline');
select is_empty(
  $$ select c.visibility, c.relation, p.status from cases c join rollcall.user_presence p on p.user_id = c.subject_id
     where p.face = 'trusted' and p.status <> case when c.invisible then 'invisible' else 'online' end::rollcall.presence_status $$,
  'whoever is on the list sees the real state');
select is_empty(
  $$ select c.subject_id from cases c
     where (c.subject_id in (select r from rollcall.my_relations() r))
       <> (c.relation in ('requester', 'addressee', 'both', 'team', 'conversation')) $$,
  'relations are accepted contacts, team mates and people in shared conversations');

-- One function answers the policy's question as a set, another a row; both agree with the policy.
select results_eq(
  $$ select subject_id from rollcall.my_visible_users() union select c.subject_id from cases c where rollcall.can_see_user(c.subject_id) order by 1 $$,
  $$ select user_id from rollcall.user_presence order by 1 $$, 'my_sight and open_to_me together are what is seen');

-- The other side of the same relations.
select tests.as_owner();
insert into rollcall.presence_devices (user_id, device_id) select id, 'phone' from me;
create temp table asked (subject_id uuid, seen text) on commit drop;
do $$
declare
  v record;
  v_face text;
begin
  for v in select distinct on (relation, block) * from pg_temp.cases order by relation, block, n loop
    perform tests.as_user(v.subject_id);
    select p.face into v_face from rollcall.user_presence p where p.user_id = tests.u(100);
    perform tests.as_owner();
    insert into pg_temp.asked values (v.subject_id, v_face);
  end loop;
end
$$;
select is_empty(
  $$ select c.relation, c.block, a.seen from asked a join cases c using (subject_id)
     where a.seen is distinct from case when c.block = 'none' and c.relation in ('requester', 'addressee', 'both') then 'public' end $$,
  'a relation and a block count in both directions');

-- Oneself, and others than users.
select tests.as_user(tests.u(100));
select results_eq($$ select face::text from rollcall.user_presence where user_id = tests.u(100) $$, $$ values ('trusted') $$,
  'a user sees the own trusted face, and that one only');
select tests.as_role('anon');
select throws_ok('select from rollcall.user_presence', '42501', null, 'anon may not ask');
select tests.as_role('authenticated');
select is_empty('select from rollcall.user_presence', 'a token without a user sees nobody');
select tests.as_role('service_role');
select is((select count(*) from rollcall.user_presence where user_id in (select subject_id from cases)),
  (select 2 * count(*) from cases), 'service_role sees both faces of everybody');

-- Typing ---------------------------------------------------------------------------------------------------------
select tests.as_owner();
create temp table talk on commit drop as
  select *, row_number() over () as k, gen_random_uuid() as talker from (
    select visibility, show_typing, block, listed, invisible,
      case
        when block then false when listed then true
        else not invisible and visibility <> 'nobody' and show_typing
      end as expected
    from unnest(array['nobody', 'contacts']) as visibility
    cross join unnest(array[false, true]) as show_typing
    cross join unnest(array[false, true]) as block
    cross join unnest(array[false, true]) as listed
    cross join unnest(array[false, true]) as invisible
  ) c;
grant select on talk to public;
insert into rollcall.conversation_participants (conversation_id, user_id) select tests.node(51), talker from talk;
insert into rollcall.presence_settings (user_id, visibility, show_typing) select talker, visibility::rollcall.presence_visibility, show_typing from talk;
insert into rollcall.blocks (blocker_id, blocked_id) select talker, tests.u(100) from talk where block;
insert into rollcall.presence_visibility_list (user_id, viewer_id) select talker, tests.u(100) from talk where listed;
insert into rollcall.presence_choices (user_id, chosen) select talker, 'invisible' from talk where invisible;
insert into rollcall.typing_indicators (conversation_id, user_id) select tests.node(51), talker from talk;
select tests.as_user(tests.u(100));
select is_empty(
  $$ select t.* from talk t
     where t.expected <> exists (select from rollcall.typing_indicators i where i.user_id = t.talker) $$,
  'who is hidden, invisible, blocked, or shows no typing, is not seen to type, except by the list');
select tests.as_user(tests.u(99));
select is_empty('select from rollcall.typing_indicators', 'outside of the conversation nobody is seen to type');
select tests.as_user((select talker from talk where block limit 1));
select isnt_empty($$ select from rollcall.typing_indicators where user_id = auth.uid() $$, 'one sees oneself type');

select * from finish();
rollback;
