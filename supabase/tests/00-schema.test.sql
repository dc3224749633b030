-- What must hold for every table and function, also for those that come later.
begin;
select plan(32);
select tests.as_owner();

-- Row-level security -------------------------------------------------------------------------------------------
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('public'::regnamespace, 'rollcall'::regnamespace) and c.relkind in ('r', 'p')
       and not c.relrowsecurity
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') $$,
  'row-level security is on for every table in public and rollcall');

-- A policy more, or one less, is a change of who sees what: it has to be made here as well.
select policies_are('public', 'user_presence', array[
  'a user sees the own trusted face', 'a viewer sees the one face that is shown to them']);
select policies_are('public', 'presence_nodes', '{}'::name[]);
select policies_are('public', 'presence_devices', array['own devices']);
select policies_are('public', 'presence_choices', array['own choices']);
select policies_are('public', 'user_last_seen', array['own last seen']);
select policies_are('public', 'presence_settings', array['own settings']);
select policies_are('public', 'presence_visibility_list', array['own visibility list']);
select policies_are('public', 'contacts', array[
  'both sides see a contact', 'a user asks for a contact', 'the other side accepts', 'either side ends a contact']);
select policies_are('public', 'blocks', array['own blocks']);
select policies_are('public', 'teams', array['members and owners see a team', 'owners manage a team']);
select policies_are('public', 'team_members', array[
  'members see each other', 'owners invite members', 'members accept for themselves', 'owners remove members, members leave']);
select policies_are('public', 'conversations', array[
  'participants see a conversation', 'anyone starts a conversation', 'its creator changes a conversation',
  'its creator ends a conversation']);
select policies_are('public', 'conversation_participants', array[
  'participants see each other', 'the creator adds participants', 'the creator removes participants, participants leave']);
select policies_are('public', 'typing_indicators', array[
  'participants see who types', 'participants type', 'one types on', 'one stops typing']);
select policies_are('rollcall', 'visibility_log', '{}'::name[]);
select is_empty(
  $$ select polname from pg_policy
     where polrelid in (select oid from pg_class where relnamespace in ('public'::regnamespace, 'rollcall'::regnamespace))
       and (0 = any (polroles) or 'anon'::regrole = any (polroles)) $$,
  'no policy is for anon or for everybody');

-- Functions ------------------------------------------------------------------------------------------------------
create temp view ours as
  select p.oid, p.oid::regprocedure::text as name, p.prosecdef, p.proconfig, p.prorettype
  from pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'rollcall'::regnamespace)
    and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e');

select is_empty(
  $$ select name from ours where prosecdef and not exists (select from unnest(proconfig) c where c in ('search_path=""', 'search_path=')) $$,
  'every definer function pins an empty search_path');
select is_empty($$ select name from ours where has_function_privilege('anon', oid, 'execute') $$,
  'anon calls no function of ours');
select is_empty(
  $$ select name from ours where exists (
       select from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
       where p.oid = ours.oid and a.grantee = 0 and a.privilege_type = 'EXECUTE') $$,
  'nor does PUBLIC');
select is_empty(
  $$ select name from ours where name ~ '(write_presence|refresh_faces|faces_of|look|renew_lease|release_lease|notify_|policy_sources|visibility_sources|watch_visibility|probe_channels|hear_messages|rights_sources|on_rights)'
       and (has_function_privilege('authenticated', oid, 'execute') or has_function_privilege('service_role', oid, 'execute')) $$,
  'the server''s own functions are the server''s');
select is_empty(
  $$ select name from (values ('rollcall.set_status(uuid,presence_status,text)'), ('rollcall.sweep(interval,interval,boolean,integer)'),
       ('rollcall.void_sight(uuid[],uuid[],text)'), ('rollcall.watch_table(regclass)'),
       ('rollcall.keep_message_partitions(interval,integer)'), ('rollcall.void_rights(text,text[])'), ('rollcall.watch_rights_source(regclass)')) wanted (name)
     where not has_function_privilege('service_role', name, 'execute') $$,
  'service_role may set a status, sweep, void sight and rights, keep partitions and watch a table');

-- Grants ---------------------------------------------------------------------------------------------------------
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('public'::regnamespace, 'rollcall'::regnamespace) and c.relkind in ('r', 'p', 'v', 'S')
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
       -- Where the DBA says by policy who may ask who is in a channel: without one, nobody.
       and c.oid <> 'rollcall.presence'::regclass
       and case c.relkind when 'S' then has_sequence_privilege('anon', c.oid, 'usage, select, update')
         else has_any_column_privilege('anon', c.oid, 'select, insert, update, references')
           or has_table_privilege('anon', c.oid, 'delete, truncate, trigger') end $$,
  'anon has no right to any table');
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('public'::regnamespace, 'rollcall'::regnamespace) and c.relkind in ('r', 'p')
       and has_table_privilege('authenticated', c.oid, 'truncate, trigger, references') $$,
  'authenticated cannot get around row-level security by truncate or triggers');
select ok(not has_any_column_privilege('authenticated', 'public.user_presence', 'insert, update')
  and not has_table_privilege('authenticated', 'public.user_presence', 'delete'), 'authenticated does not write faces');
select is_empty(
  $$ select attname from pg_attribute where attrelid = 'public.presence_devices'::regclass
       and attname in ('user_id', 'device_id', 'nodes', 'session_started_at', 'last_heartbeat_at', 'last_active_at',
         'idle_since', 'signed_off_at', 'live', 'navigation_history', 'context_updated_at', 'context_version')
       and has_column_privilege('authenticated', attrelid, attnum, 'update') $$,
  'of a device, authenticated changes what is the device''s to say');
select ok(not has_column_privilege('authenticated', 'public.presence_choices', 'last_seen_when_hidden', 'insert, update'),
  'what hides an invisible user is not the user''s to write');
select ok(has_table_privilege('service_role', 'public.user_presence', 'select, insert, update, delete'),
  'service_role writes faces');

-- Names and indexes ----------------------------------------------------------------------------------------------
select is_empty(
  $$ select c.conrelid::regclass, c.conname from pg_constraint c
     where c.contype = 'f' and c.connamespace in ('public'::regnamespace, 'rollcall'::regnamespace)
       and not exists (select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1]) $$,
  'every foreign key has an index');
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('public'::regnamespace, 'rollcall'::regnamespace) and c.relkind in ('r', 'p')
       and obj_description(c.oid, 'pg_class') is null
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') $$,
  'every table says what it is');

-- Triggers -------------------------------------------------------------------------------------------------------
create temp view recorded as select relation, name, definition from rollcall.triggers;
create temp table before on commit drop as select * from recorded;
select isnt(rollcall.record_triggers(), 0::bigint, 'triggers are recorded');
select results_eq('select * from recorded order by 1, 2', 'select * from before order by 1, 2', 'and the last migration did it');

select * from finish();
rollback;
