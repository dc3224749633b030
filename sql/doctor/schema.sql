-- What is wrong with the migrated schema and the rights on it, one row a check, in the order to mend things.
-- Returns name text, ok bool, finding text (for people), remedy text (SQL, or null where none is needed or none helps).
-- Only for a database to which all migrations were applied. Reads catalogs only; asks as the role that the server uses.
with
-- The tables that the migrations made.
ours as (
  select c.oid, c.relname, n.nspname, format('%I.%I', n.nspname, c.relname) as name, c.relrowsecurity
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p')
    and n.nspname in ('rollcall', 'rollcall_internal')
),
functions as (
  select p.oid, p.oid::regprocedure::text as name, p.prosecdef, p.proconfig, p.proacl, p.proowner, p.prosrc
  from pg_proc p where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
),
-- Tables that users or services read: the grants of the schema files.
api_table as (
  select o.* from ours o
  where o.nspname = 'rollcall'
    and o.relname not in ('retention', 'limits', 'quotas', 'personal_data', 'event_settings', 'webhooks')
),
-- One row a thing that is wrong.
wrong (check_name, what, remedy) as (
  -- Without BYPASSRLS, policies for service_role stand in.
  select distinct 'service_role_bypasses', rolname::text, format('alter role %I bypassrls;', rolname)
  from pg_roles r
  cross join (select a.oid from api_table a union all select to_regclass('realtime.messages')) t
  where r.rolname = 'service_role' and not r.rolbypassrls and not r.rolsuper and t.oid is not null
    and not exists (select from pg_policy p where p.polrelid = t.oid and r.oid = any (p.polroles) and p.polcmd = '*')
  union all
  select 'browsers_do_not_bypass', rolname::text,
    format('alter role %I nosuperuser nobypassrls;', rolname)
  from pg_roles where rolname in ('anon', 'authenticated') and (rolbypassrls or rolsuper)
  union all
  select 'schema_usage', format('%s on %s', role, schema), format('grant usage on schema %I to %I;', schema, role)
  from unnest(array['authenticated', 'service_role']) role cross join unnest(array['rollcall', 'auth']) schema
  where not has_schema_privilege(role, schema, 'usage')
  union all
  select 'own_row_level_security', name, format('alter table %s enable row level security;', name)
  from ours where not relrowsecurity
  union all
  select 'server_rights', name, format('grant select, insert, update, delete on %s to %I;', name, current_user)
  from ours where not has_table_privilege(oid, 'select') or not has_table_privilege(oid, 'insert')
    or not has_table_privilege(oid, 'update') or not has_table_privilege(oid, 'delete')
  union all
  select 'api_grants', 'select on ' || name || ' by authenticated', format('grant select on %s to authenticated;', name)
  from api_table where not has_table_privilege('authenticated', oid, 'select')
  union all
  select 'api_grants', name || ' by service_role', format('grant all on %s to service_role;', name)
  from ours where (oid in (select a.oid from api_table a) or name = 'rollcall_internal.nodes')
    and not (has_table_privilege('service_role', oid, 'select')
    and has_table_privilege('service_role', oid, 'insert') and has_table_privilege('service_role', oid, 'update')
    and has_table_privilege('service_role', oid, 'delete'))
  union all
  select 'functions_closed', name, format('revoke execute on function %s from public;', name)
  from functions f
  where exists (select from aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
    where a.grantee = 0 and a.privilege_type = 'EXECUTE')
  union all
  select 'functions_granted', name, format('grant execute on function %s to authenticated;', name)
  from functions where name in ('rollcall.my_visible_users()', 'rollcall.can_see_user(uuid)', 'rollcall_internal.can_see_typing(uuid)',
      'rollcall.my_teams()', 'rollcall.my_conversations()', 'rollcall.my_relations()', 'rollcall.any_node_lives(uuid[])',
      'rollcall.sign_off_mine(text)', 'rollcall.touch_device(text,boolean)', 'rollcall.record_sign_off(text)',
      'rollcall.export_mine()', 'rollcall.forget_me()', 'rollcall.record_forgetting()')
    and not has_function_privilege('authenticated', oid, 'execute')
  union all
  select 'search_path_pinned', name, format('alter function %s set search_path = pg_catalog, pg_temp;', name)
  from functions where prosecdef and not exists (select from unnest(proconfig) c where c like 'search_path=%, pg_temp')
    and prosrc not like '%rollcall_internal.check_search_path();%'
  union all
  -- Without these faces do not follow, sockets do not hear, or prepared context goes stale.
  select 'triggers', format('%s on %s is missing', w.name, w.relation), w.definition || ';'
    || case when w.name like 'context\_after\_%'
      then format(' alter table %s enable always trigger %I;', w.relation, w.name) else '' end
  from rollcall_internal.triggers w
  where not exists (select from pg_trigger t where t.tgrelid = w.relation and t.tgname = w.name)
  union all
  select 'triggers', format('%s on %s is disabled', t.tgname, ours.name),
    format('alter table %s enable %strigger %I;', ours.name,
      case when t.tgname like 'context\_after\_%' then 'always ' else '' end, t.tgname)
  from pg_trigger t join ours on ours.oid = t.tgrelid
  where not t.tgisinternal and t.tgenabled not in ('O', 'A')
  union all
  -- Sessions of restores and replication fire no others.
  select 'triggers', format('%s on %s does not always fire', t.tgname, ours.name),
    format('alter table %s enable always trigger %I;', ours.name, t.tgname)
  from pg_trigger t join ours on ours.oid = t.tgrelid
  where t.tgname like 'context\_after\_%' and t.tgenabled = 'O'
  union all
  select 'policy_watch', evtname::text, format('alter event trigger %I enable;', evtname)
  from pg_event_trigger where evtname in ('rollcall_policy_watch', 'rollcall_authorization_watch') and evtenabled not in ('O', 'A')
  union all
  -- The server checks deleted rows by the text of the policies, whose names it resolves as itself.
  select distinct 'policy_functions', format('%I.%I', n.nspname, f.proname),
    format('grant usage on schema %I to %I;', n.nspname, current_user)
  from rollcall_internal.published_tables('*', '*') t
  join pg_policy p on p.polrelid = t.relation and p.polcmd in ('r', '*')
  cross join regexp_matches(p.polqual::text, ':funcid (\d+)', 'g') as called (part)
  join pg_proc f on f.oid = called.part[1]::oid
  join pg_namespace n on n.oid = f.pronamespace
  where rollcall_internal.delete_is_secured(t.relation) and not has_schema_privilege(n.oid, 'usage')
),
-- What is looked at, and how it is said when all is well and when not.
checks (place, name, well, unwell) as (
  values
    (1, 'service_role_bypasses', 'service_role reads and writes all rows', 'has neither BYPASSRLS nor policies for all rows'),
    (2, 'browsers_do_not_bypass', 'anon and authenticated are under row-level security', 'not under row-level security'),
    (3, 'schema_usage', 'the API''s roles may use the schemas', 'no usage'),
    (4, 'own_row_level_security', 'on in every table of Rollcall', 'off'),
    (5, 'server_rights', 'the server may read and write its tables', 'the server may not read and write'),
    (6, 'api_grants', 'the API''s roles have what the policies are for', 'not granted'),
    (8, 'functions_closed', 'functions are for those who were granted them', 'anybody may call'),
    (9, 'functions_granted', 'policies and users can call what they need', 'authenticated may not call'),
    (10, 'search_path_pinned', 'every definer function sets or checks its search_path', 'search_path is not set'),
    (11, 'triggers', 'all are there and enabled', 'faces or prepared context do not follow, or sockets do not hear'),
    (12, 'policy_watch', 'changes of policies are noticed', 'disabled'),
    (16, 'policy_functions', 'the server may use the functions in policies of published tables',
      'deletes are not told, because policies call functions in schemas that the server may not use')
)
select c.name, count(w.check_name) = 0 as ok,
  case when count(w.check_name) = 0 then c.well else c.unwell || ': ' || string_agg(w.what, ', ' order by w.what) end as finding,
  string_agg(w.remedy, ' ' order by w.what) as remedy
from checks c
left join wrong w on w.check_name = c.name
group by c.place, c.name, c.well, c.unwell
order by c.place
