-- What stands in the way of an installation, all at once. $1 text: the role that will own the schemas.
-- Returns one row per problem: problem text. Reads catalogs only; runs as the role that will run the installation.
with me as (
  select r.oid, r.rolname, r.rolsuper, r.rolsuper or r.rolcreaterole as creates_roles,
    r.rolsuper or has_database_privilege(current_database(), 'create') as creates_schemas
  from pg_roles r where r.rolname = current_user
),
-- By name, because to_regclass and to_regprocedure raise an error for a schema that the role may not use.
relation (name, oid) as (
  select n.nspname || '.' || c.relname, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname in ('rollcall', 'auth', 'realtime')
),
routine (signature, result) as (
  select format('%s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.prorettype
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname in ('auth', 'realtime') or p.proname = 'void_sight' and n.nspname = 'rollcall'
),
installed as (
  select exists (select from relation r where r.name = 'rollcall.schema_migrations') as yes,
    exists (select from routine r where r.signature like 'rollcall.void\_sight(%') as is_development,
    exists (select from pg_roles where rolname = 'supabase_auth_admin') as on_supabase
),
api_role (name) as (values ('anon'), ('authenticated'), ('service_role')),
-- Functions that policies rely on, with their types.
auth_function (signature, result) as (
  values ('auth.uid()', 'uuid'::regtype), ('auth.jwt()', 'jsonb'), ('auth.role()', 'text')
),
problem (place, problem) as (
  select 1, format('PostgreSQL %s: version 15 or newer is required', current_setting('server_version'))
  where current_setting('server_version_num')::int < 150000
  union all
  select 2, 'the database is a standby: connect to the primary'
  where pg_is_in_recovery()
  union all
  select 3, 'the database holds a development version of Rollcall with tables in the schema public, which cannot be '
    'migrated: use an empty database (rm -r .rollcall/pg for the embedded one)'
  from installed i where i.is_development
  union all
  select 4, format('schema %s: exists and was not created by Rollcall; rename or drop it', n.nspname)
  from pg_namespace n, installed i
  where n.nspname in ('rollcall', 'rollcall_internal') and not i.yes and not i.is_development
  union all
  select 4, format('schema rollcall: belongs to the role %s; connect as that role', pg_get_userbyid(n.nspowner))
  from pg_namespace n, installed i
  where n.nspname = 'rollcall' and i.yes and not pg_has_role($1::text::name, n.nspowner, 'usage')
  union all
  select 5, format('event trigger %s: exists and was not created by Rollcall; drop it', e.evtname)
  from pg_event_trigger e, installed i
  where e.evtname in ('rollcall_policy_watch', 'rollcall_authorization_watch') and not i.yes
  union all
  select 6, format('role %s: may not create schemas in the database %s; as its owner run: grant create on database %2$I to %1$I;',
    m.rolname, current_database())
  from me m, installed i where not m.creates_schemas and not i.yes
  union all
  select 7, format('role %s: is missing, and %s may not create roles; as a superuser run: create role %1$I nologin noinherit%3$s;',
    a.name, m.rolname, case when a.name = 'service_role' then ' bypassrls' else '' end)
  from api_role a, me m
  where not exists (select from pg_roles r where r.rolname = a.name) and not m.creates_roles
  union all
  -- Since PostgreSQL 16 a role needs the admin option to grant membership.
  select 8, format('role %s: may not become %s; as a superuser run: grant %2$I to %1$I;', $1::text, a.name)
  from api_role a
  join pg_roles r on r.rolname = a.name
  cross join me m
  where not pg_has_role($1::text::name, r.oid,
      case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
    and not case when current_setting('server_version_num')::int >= 160000
      then m.rolsuper or pg_has_role(m.oid, r.oid, 'member with admin option')
      else m.creates_roles or pg_has_role(m.oid, r.oid, 'member with admin option') end
  union all
  select 9, format('function %s: returns %s instead of %s; policies of Rollcall rely on it', f.signature,
    format_type(p.result, null), f.result)
  from auth_function f join routine p on p.signature = f.signature
  where p.result <> f.result
  union all
  select 10, format('schema %s: lacks objects of Rollcall, and %s may not create them there; '
    'as its owner run: grant usage, create on schema %1$I to %2$I;', n.nspname, m.rolname)
  from pg_namespace n, me m, installed i
  where not i.on_supabase and not (has_schema_privilege(n.oid, 'create') and has_schema_privilege(n.oid, 'usage'))
    and (n.nspname = 'auth' and exists (
        select from auth_function f where not exists (select from routine r where r.signature = f.signature))
      or n.nspname = 'realtime' and (not exists (select from relation r where r.name = 'realtime.messages')
        or (select count(*) from routine r where r.signature like any (array['realtime.topic()', 'realtime.send(%)'])) < 2))
  union all
  select 10, format('schema %s: %s may not use it, and %s may not grant that; as its owner run: grant usage on schema %1$I to %2$s;',
    n.nspname, string_agg(a.name, ', ' order by a.name), m.rolname)
  from pg_namespace n
  cross join api_role a
  left join pg_roles r on r.rolname = a.name
  cross join me m
  cross join installed i
  where n.nspname in ('auth', 'realtime') and not i.on_supabase and not i.yes
    and not has_schema_privilege(n.oid, 'usage with grant option')
    and not case when r.oid is null then has_schema_privilege('public', n.oid, 'usage')
      else has_schema_privilege(r.oid, n.oid, 'usage') end
  group by n.nspname, m.rolname
  union all
  select 11, format('table realtime.messages: lacks the columns %s of Supabase Realtime; rename it',
    string_agg(w.name, ', ' order by w.place))
  from unnest(array['topic', 'extension', 'payload', 'event', 'private', 'updated_at', 'inserted_at', 'id'])
    with ordinality w (name, place)
  join relation r on r.name = 'realtime.messages'
  where not exists (
      select from pg_attribute a
      where a.attrelid = r.oid and a.attname = w.name and a.attnum > 0 and not a.attisdropped)
  having count(*) > 0
  union all
  select 12, format('%s is missing: Supabase provides it', w.name)
  from installed i, unnest(array['auth.users', 'realtime.messages']) w (name)
  where i.on_supabase and not exists (select from relation r where r.name = w.name)
)
select p.problem from problem p order by p.place, p.problem
