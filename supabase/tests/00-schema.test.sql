-- What must hold for every table and function, also for those that come later.
begin;
select plan(32);
select tests.as_owner();

-- Row-level security -------------------------------------------------------------------------------------------
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace) and c.relkind in ('r', 'p')
       and not c.relrowsecurity
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') $$,
  'row-level security is on for every table of Rollcall');

-- A policy more, or one less, is a change of who sees what: it has to be made here as well.
select policies_are('rollcall', 'user_presence', array['service_role has full access',
  'users read their trusted face', 'viewers read the face shown to them']);
select policies_are('rollcall_internal', 'nodes', array['service_role has full access']);
select policies_are('rollcall', 'presence_devices', array['service_role has full access', 'own devices']);
select policies_are('rollcall', 'presence_choices', array['service_role has full access', 'own choices']);
select policies_are('rollcall', 'user_last_seen', array['service_role has full access', 'own last seen']);
select policies_are('rollcall', 'presence_settings', array['service_role has full access', 'own settings']);
select policies_are('rollcall', 'presence_visibility_list', array['service_role has full access', 'own visibility list']);
select policies_are('rollcall', 'contacts', array['service_role has full access',
  'both sides read a contact', 'users request contacts', 'addressees accept contacts', 'both sides delete a contact']);
select policies_are('rollcall', 'blocks', array['service_role has full access', 'own blocks']);
select policies_are('rollcall', 'teams', array['service_role has full access', 'members and owners read a team', 'owners manage a team']);
select policies_are('rollcall', 'team_members', array['service_role has full access',
  'members read each other', 'owners invite members', 'members accept for themselves', 'owners remove members, members leave']);
select policies_are('rollcall', 'conversations', array['service_role has full access',
  'participants read a conversation', 'users create conversations', 'creators change a conversation',
  'creators delete a conversation']);
select policies_are('rollcall', 'conversation_participants', array['service_role has full access',
  'participants read each other', 'creators add participants', 'creators remove participants, participants leave']);
select policies_are('rollcall', 'typing_indicators', array['service_role has full access',
  'participants read who is typing', 'participants start typing', 'users refresh their typing', 'users stop typing']);
select policies_are('rollcall_internal', 'visibility_log', '{}'::name[]);
select is_empty(
  $$ select polname from pg_policy
     where polrelid in (select oid from pg_class where relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace))
       and (0 = any (polroles) or 'anon'::regrole = any (polroles)) $$,
  'no policy is for anon or for everybody');

-- Functions ------------------------------------------------------------------------------------------------------
create temp view ours as
  select p.oid, p.oid::regprocedure::text as name, p.prosecdef, p.proconfig, p.prorettype, p.prosrc
  from pg_proc p
  where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
    and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e');

select is_empty(
  $$ select name from ours where prosecdef and not exists (select from unnest(proconfig) c where c = 'search_path=pg_catalog, pg_temp')
       and prosrc not like '%rollcall_internal.check_search_path();%' $$,
  'every definer function pins its search_path or checks it');
select is_empty($$ select name from ours where has_function_privilege('anon', oid, 'execute') and name <> 'rollcall.role_search_path(text)' $$,
  'anon calls no function of ours');
select is_empty(
  $$ select name from ours where exists (
       select from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
       where p.oid = ours.oid and a.grantee = 0 and a.privilege_type = 'EXECUTE') $$,
  'nor does PUBLIC');
select is_empty(
  $$ select name from ours where name like 'rollcall\_internal.%' and name !~ '[.](names_tsquery|search_grams|can_see_typing)[(]'  -- of generated columns and policies
       and (has_function_privilege('authenticated', oid, 'execute') or has_function_privilege('service_role', oid, 'execute')) $$,
  'the server''s own functions are the server''s');
select is_empty(
  $$ select name from (values ('rollcall.set_status(uuid,rollcall.presence_status,text,integer)'), ('rollcall.sweep(interval,interval,boolean,integer)'),
       ('rollcall.invalidate_visibility(uuid[],uuid[],text)'), ('rollcall.watch_table(regclass)'),
       ('rollcall.maintain_message_partitions(interval,integer)'), ('rollcall.invalidate_channel_authorization(text,text[])'), ('rollcall.watch_authorization_source(regclass)')) wanted (name)
     where not has_function_privilege('service_role', name, 'execute') $$,
  'service_role may set a status, sweep, void sight and rights, keep partitions and watch a table');

-- Grants ---------------------------------------------------------------------------------------------------------
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace) and c.relkind in ('r', 'p', 'v', 'S')
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
       -- Where the DBA says by policy who may ask who is in a channel: without one, nobody.
       and c.oid not in ('rollcall.presence'::regclass, 'rollcall_internal.channel_presence'::regclass)
       and case c.relkind when 'S' then has_sequence_privilege('anon', c.oid, 'usage, select, update')
         else has_any_column_privilege('anon', c.oid, 'select, insert, update, references')
           or has_table_privilege('anon', c.oid, 'delete, truncate, trigger') end $$,
  'anon has no right to any table');
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace) and c.relkind in ('r', 'p')
       and has_table_privilege('authenticated', c.oid, 'truncate, trigger, references') $$,
  'authenticated cannot get around row-level security by truncate or triggers');
select ok(not has_any_column_privilege('authenticated', 'rollcall.user_presence', 'insert, update')
  and not has_table_privilege('authenticated', 'rollcall.user_presence', 'delete'), 'authenticated does not write faces');
select is_empty(
  $$ select attname from pg_attribute where attrelid = 'rollcall.presence_devices'::regclass
       and attname in ('user_id', 'device_id', 'nodes', 'session_started_at', 'last_heartbeat_at', 'last_active_at',
         'idle_since', 'signed_off_at', 'live', 'navigation_history', 'context_updated_at', 'context_version')
       and has_column_privilege('authenticated', attrelid, attnum, 'update') $$,
  'of a device, authenticated changes what is the device''s to say');
select ok(not has_column_privilege('authenticated', 'rollcall.presence_choices', 'last_seen_when_hidden', 'insert, update'),
  'what hides an invisible user is not the user''s to write');
select ok(has_table_privilege('service_role', 'rollcall.user_presence', 'select, insert, update, delete'),
  'service_role writes faces');

-- Names and indexes ----------------------------------------------------------------------------------------------
select is_empty(
  $$ select c.conrelid::regclass, c.conname from pg_constraint c
     where c.contype = 'f' and c.connamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
       and not exists (select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1]) $$,
  'every foreign key has an index');
select is_empty(
  $$ select c.oid::regclass from pg_class c
     where c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace) and c.relkind in ('r', 'p')
       and obj_description(c.oid, 'pg_class') is null
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') $$,
  'every table says what it is');

-- Triggers -------------------------------------------------------------------------------------------------------
create temp view recorded as select relation, name, definition from rollcall_internal.triggers;
create temp table before on commit drop as select * from recorded;
select isnt(rollcall_internal.record_triggers(), 0::bigint, 'triggers are recorded');
select results_eq('select * from recorded order by 1, 2', 'select * from before order by 1, 2', 'and the last migration did it');

select * from finish();
rollback;
