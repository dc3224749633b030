-- For each table and verb: what its user, another user, anon and service_role may do. A policy that hides rows makes a
-- statement touch none; what must not come to be raises 42501.
begin;
select plan(91);
select tests.as_owner();

-- u(1) owns one row of everything, u(2) is the other side of the relations, u(3) has nothing to do with either.
select tests.says(tests.u(1), 'busy');
insert into rollcall.presence_settings (user_id) values (tests.u(1));
insert into rollcall.presence_visibility_list (user_id, viewer_id) values (tests.u(1), tests.u(2));
insert into rollcall.contacts (requester_id, addressee_id) values (tests.u(1), tests.u(2));
insert into rollcall.blocks (blocker_id, blocked_id) values (tests.u(1), tests.u(9));
insert into rollcall.teams (id, name, owner_id) values (tests.node(1), 'ours', tests.u(1));
insert into rollcall.team_members (team_id, user_id) values (tests.node(1), tests.u(2));
insert into rollcall.conversations (id, created_by) values (tests.node(2), tests.u(1));
insert into rollcall.conversation_participants (conversation_id, user_id) values (tests.node(2), tests.u(1)), (tests.node(2), tests.u(2));
insert into rollcall.typing_indicators (conversation_id, user_id) values (tests.node(2), tests.u(1));

create function pg_temp.rows_of(p_sql text) returns bigint language plpgsql as $$
declare v bigint;
begin
  execute p_sql;
  get diagnostics v = row_count;
  return v;
end
$$;

-- anon: nothing, anywhere ------------------------------------------------------------------------------------------
create temp table tables on commit drop as
  select unnest(array['presence_nodes', 'presence_devices', 'presence_choices', 'user_last_seen', 'presence_settings',
    'presence_visibility_list', 'user_presence', 'contacts', 'blocks', 'teams', 'team_members', 'conversations',
    'conversation_participants', 'typing_indicators']) as name;
select tests.as_role('anon');
select throws_ok(format('select from rollcall.%I', name), '42501', null, 'anon does not read ' || name) from
  unnest(array['presence_nodes', 'presence_devices', 'presence_choices', 'user_last_seen', 'presence_settings',
    'presence_visibility_list', 'user_presence', 'contacts', 'blocks', 'teams', 'team_members', 'conversations',
    'conversation_participants', 'typing_indicators']) as name;

-- A stranger sees and touches none -----------------------------------------------------------------------------------
select tests.as_user(tests.u(3));
select is_empty(format('select from rollcall.%I', name), 'a stranger sees no row of ' || name) from
  unnest(array['presence_devices', 'presence_choices', 'user_last_seen', 'presence_settings', 'presence_visibility_list',
    'user_presence', 'contacts', 'blocks', 'teams', 'team_members', 'conversations', 'conversation_participants',
    'typing_indicators']) as name;
select throws_ok('select from rollcall.presence_nodes', '42501', null, 'nodes are no user''s business');
select is(pg_temp.rows_of(format('delete from rollcall.%I', name)), 0::bigint, 'a stranger deletes no row of ' || name) from
  unnest(array['presence_devices', 'presence_choices', 'presence_settings', 'presence_visibility_list', 'contacts', 'blocks',
    'teams', 'team_members', 'conversations', 'conversation_participants', 'typing_indicators']) as name;
select is(pg_temp.rows_of($$ update rollcall.presence_devices set status = 'offline' $$)
  + pg_temp.rows_of($$ update rollcall.presence_choices set chosen = null $$)
  + pg_temp.rows_of($$ update rollcall.presence_settings set visibility = 'everyone' $$)
  + pg_temp.rows_of($$ update rollcall.contacts set accepted_at = now() $$)
  + pg_temp.rows_of($$ update rollcall.teams set name = 'theirs' $$)
  + pg_temp.rows_of($$ update rollcall.team_members set accepted_at = null $$)
  + pg_temp.rows_of($$ update rollcall.conversations set title = 'theirs' $$)
  + pg_temp.rows_of($$ update rollcall.typing_indicators set expires_at = now() $$), 0::bigint, 'a stranger updates nothing');
select throws_ok(sql, '42501', null, 'a stranger may not: ' || sql) from unnest(array[
  $$ insert into rollcall.presence_devices (user_id, device_id) values (tests.u(1), 'x') $$,
  $$ insert into rollcall.presence_choices (user_id, chosen) values (tests.u(9), 'dnd') $$,
  $$ insert into rollcall.presence_settings (user_id, visibility) values (tests.u(9), 'everyone') $$,
  $$ insert into rollcall.presence_visibility_list (user_id, viewer_id) values (tests.u(1), tests.u(3)) $$,
  $$ insert into rollcall.user_presence (user_id, face, status, reach) values (tests.u(3), 'public', 'online', 'online') $$,
  $$ insert into rollcall.user_last_seen (user_id, last_seen) values (tests.u(3), now()) $$,
  $$ insert into rollcall.contacts (requester_id, addressee_id) values (tests.u(1), tests.u(3)) $$,
  $$ insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values (tests.u(3), tests.u(1), now()) $$,
  $$ insert into rollcall.blocks (blocker_id, blocked_id) values (tests.u(1), tests.u(2)) $$,
  $$ insert into rollcall.teams (name, owner_id) values ('x', tests.u(1)) $$,
  $$ insert into rollcall.team_members (team_id, user_id) values (tests.node(1), tests.u(3)) $$,
  $$ insert into rollcall.conversations (created_by) values (tests.u(1)) $$,
  $$ insert into rollcall.conversation_participants (conversation_id, user_id) values (tests.node(2), tests.u(3)) $$,
  $$ insert into rollcall.typing_indicators (conversation_id, user_id) values (tests.node(2), tests.u(3)) $$,
  $$ truncate rollcall.presence_settings $$
]) as sql;

-- The user's own -----------------------------------------------------------------------------------------------------
select tests.as_user(tests.u(1));
select lives_ok(sql, 'one may: ' || sql) from unnest(array[
  $$ insert into rollcall.presence_devices (user_id, device_id, status) values (auth.uid(), 'tablet', 'online') $$,
  $$ update rollcall.presence_devices set status = 'offline', activity = null where user_id = auth.uid() $$,
  $$ delete from rollcall.presence_devices where device_id = 'tablet' $$,
  $$ update rollcall.presence_choices set chosen = 'invisible', custom_status = 'x' where user_id = auth.uid() $$,
  $$ update rollcall.presence_settings set visibility = 'nobody' where user_id = auth.uid() $$,
  $$ delete from rollcall.presence_settings where user_id = auth.uid() $$,
  $$ insert into rollcall.presence_settings (user_id, show_typing) values (auth.uid(), false) $$,
  $$ insert into rollcall.presence_visibility_list (user_id, viewer_id) values (auth.uid(), tests.u(4)) $$,
  $$ delete from rollcall.presence_visibility_list where viewer_id = tests.u(4) $$,
  $$ insert into rollcall.contacts (requester_id, addressee_id) values (auth.uid(), tests.u(4)) $$,
  $$ insert into rollcall.blocks (blocker_id, blocked_id) values (auth.uid(), tests.u(4)) $$,
  $$ delete from rollcall.blocks where blocked_id = tests.u(4) $$,
  $$ insert into rollcall.teams (name, owner_id) values ('mine', auth.uid()) $$,
  $$ insert into rollcall.team_members (team_id, user_id) values (tests.node(1), auth.uid()) $$,
  $$ insert into rollcall.team_members (team_id, user_id, accepted_at) values (tests.node(1), tests.u(4), null) $$,
  $$ update rollcall.conversations set title = 'ours' where id = tests.node(2) $$,
  $$ insert into rollcall.conversation_participants (conversation_id, user_id) values (tests.node(2), tests.u(4)) $$,
  $$ update rollcall.typing_indicators set expires_at = now() + interval '5 seconds' where user_id = auth.uid() $$
]) as sql;
select is((select status::text from rollcall.user_presence where user_id = auth.uid()), 'offline', 'and the own face follows');
select is(pg_temp.rows_of($$ update rollcall.contacts set accepted_at = now() where addressee_id = tests.u(2) $$), 0::bigint,
  'who asked for a contact does not accept it');
select throws_ok($$ insert into rollcall.team_members (team_id, user_id) values (tests.node(1), tests.u(5)) $$, '42501', null,
  'an owner invites, and does not accept for others');
select throws_ok(sql, '42501', null, 'the server''s columns are the server''s: ' || sql) from unnest(array[
  $$ update rollcall.presence_devices set last_heartbeat_at = now() $$,
  $$ update rollcall.presence_devices set user_id = tests.u(3) $$,
  $$ update rollcall.presence_choices set last_seen_when_hidden = now() $$,
  $$ update rollcall.user_presence set status = 'online' $$,
  $$ update rollcall.user_last_seen set last_seen = null $$,
  $$ delete from rollcall.user_last_seen $$
]) as sql;
select ok((select max(expires_at) < clock_timestamp() + interval '6 seconds' from rollcall.typing_indicators), '(typing is short)');

-- The other side of the relations ------------------------------------------------------------------------------------
select tests.as_user(tests.u(2));
select is(pg_temp.rows_of('update rollcall.contacts set accepted_at = now()'), 1::bigint, 'the other side accepts a contact');
select is_empty('select from rollcall.blocks', 'nobody reads blocks by others');
select is_empty('select from rollcall.presence_visibility_list', 'nobody reads lists of others');
select tests.as_user(tests.u(9));
select is_empty('select from rollcall.blocks', 'the blocked one does not learn of it');
select tests.as_user(tests.u(4));
select is(pg_temp.rows_of('update rollcall.team_members set accepted_at = now()'), 1::bigint, 'who is invited to a team accepts for themselves');
select is(pg_temp.rows_of('delete from rollcall.team_members'), 1::bigint, 'and leaves by themselves');

-- service_role: everything ------------------------------------------------------------------------------------------
select tests.as_role('service_role');
select is_empty(
  $$ select name from unnest(array['presence_nodes', 'presence_devices', 'presence_choices', 'user_last_seen',
       'presence_settings', 'presence_visibility_list', 'user_presence', 'contacts', 'blocks', 'teams', 'team_members',
       'conversations', 'conversation_participants', 'typing_indicators']) as name
     where not has_table_privilege('service_role', 'rollcall.' || name, 'select, insert, update, delete') $$,
  'service_role has every table');
select is(pg_temp.rows_of($$ update rollcall.presence_settings set visibility = 'everyone' where user_id = tests.u(1) $$), 1::bigint,
  'and sees past row-level security');

select * from finish();
rollback;
