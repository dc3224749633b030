-- Module: channels
-- The schemas, the history of migrations, and what the installer created outside of them. `rollcall` holds tables,
-- views and functions for users, DBAs and PostgREST. `rollcall_internal` holds trigger functions, logs and queues; API
-- roles have no usage there, because triggers, policies and generated columns call functions without it. Nothing of
-- Rollcall is in public. Every name is qualified; only pg_catalog is implied.

create schema rollcall;
comment on schema rollcall is 'Presence, channels and AI context of Rollcall: tables, views and functions for users.';
grant usage on schema rollcall to anon, authenticated, service_role;
create schema rollcall_internal;
comment on schema rollcall_internal is 'Trigger functions, logs and queues of Rollcall. For the server only.';

create table rollcall_internal.schema_migrations (
  version text not null constraint schema_migrations_pkey primary key,
  name text not null,
  applied_at timestamptz not null default now()
);
comment on table rollcall_internal.schema_migrations is 'The rows of rollcall.schema_migrations.';
-- No policies: for the owner and the doctor.
alter table rollcall_internal.schema_migrations enable row level security;

-- Invoker: for the owner and the doctor.
create view rollcall.schema_migrations with (security_invoker = true) as
  select m.version, m.name, m.applied_at from rollcall_internal.schema_migrations m;
comment on view rollcall.schema_migrations is
  'Migrations of Rollcall that were applied. Each migration inserts its own row, whichever tool applies it.';
revoke all on rollcall.schema_migrations from anon, authenticated, service_role;

-- What the installer or a migration created outside of the two schemas, with the statement that removes it.
-- `rollcall migrate --down` runs these in reverse order.
create table rollcall_internal.installed_objects (
  id bigint generated always as identity constraint installed_objects_pkey primary key,
  kind text not null,
  name text not null,
  undo text not null
);
comment on table rollcall_internal.installed_objects is
  'Objects outside of the schemas of Rollcall that it created, with the statement that removes each.';
-- No policies: for the installer, as the owner.
alter table rollcall_internal.installed_objects enable row level security;

create table rollcall_internal.seed_files (
  path text not null constraint seed_files_pkey primary key,
  hash text not null
);
comment on table rollcall_internal.seed_files is
  'Demo data that was loaded, with the SHA-256 of the file in hexadecimal.';
-- No policies: for the installer, as the owner.
alter table rollcall_internal.seed_files enable row level security;

do $$
begin
  if to_regnamespace('extensions') is null then
    create schema extensions;
    grant usage on schema extensions to anon, authenticated, service_role;
    insert into rollcall_internal.installed_objects (kind, name, undo)
      values ('schema', 'extensions', 'drop schema if exists extensions');
  end if;
end
$$;

-- Search path ---------------------------------------------------------------------------------------------------------

-- Functions set `search_path = pg_catalog, pg_temp`. Without pg_temp in it, PostgreSQL looks for types in the temporary
-- schema of the session first, where any role may create domains whose conditions run with the rights of the function.

-- For definer functions that must not set search_path, because they fire triggers of users or evaluate their policies:
-- types in them are qualified, and so are functions that PostgreSQL could replace by a closer match. Functions and
-- operators of pg_catalog come first: where search_path lists pg_catalog after another schema, it is removed for the
-- rest of the transaction, which makes PostgreSQL search it first. Called in the declaration of a variable, which
-- PL/pgSQL evaluates without an executor: 1 instead of 5 µs for PERFORM. For the same reason, functions that run in
-- frequent writes assign results without a use to v_void.
-- Invoker: changes a setting of the transaction. Its own names are all qualified.
create function rollcall_internal.check_search_path() returns void
  language plpgsql volatile security invoker
as $$
begin
  if pg_catalog.strpos(pg_catalog.current_setting('search_path'), 'pg_catalog') operator(pg_catalog.>) 1 then
    perform pg_catalog.set_config('search_path', coalesce((
      select pg_catalog.string_agg(pg_catalog.quote_ident(s.name::pg_catalog.text), ', ' order by s.place)
      from rows from (pg_catalog.unnest(pg_catalog.current_schemas(false))) with ordinality as s (name, place)
      where s.name operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
    ), ''), true);
  end if;
end
$$;
comment on function rollcall_internal.check_search_path is
  'Removes pg_catalog from search_path for the transaction when another schema comes before it.';

-- For functions without a search_path: the body of auth.uid() on Supabase names types without their schema.
-- Invoker: reads claims.
create function rollcall_internal.caller_id() returns uuid
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return auth.uid();
end
$$;
comment on function rollcall_internal.caller_id is 'auth.uid(), whatever the search_path.';

-- The one place that decides with which search_path users' code runs when the server reaches it. In the order of
-- PostgreSQL: role in database, role, database; else "$user", public, extensions. SET ROLE does not apply these
-- settings, so the server applies this one. `none` is the login role, as in SET ROLE.
-- Invoker: reads catalogs that every role may read.
create function rollcall.role_search_path(p_role text) returns text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_role constant oid := coalesce((
    select r.oid from pg_catalog.pg_roles r
    where r.rolname = case p_role when 'none' then session_user else p_role end), 0);
begin
  return coalesce(
    (
      select substr(s.entry, length('search_path=') + 1)
      from pg_catalog.pg_db_role_setting d
      cross join lateral unnest(d.setconfig) as s (entry)
      where d.setrole in (0, v_role)
        and d.setdatabase in (0, (select b.oid from pg_catalog.pg_database b where b.datname = current_database()))
        and s.entry like 'search\_path=%'
      order by d.setrole = 0, d.setdatabase = 0
      limit 1
    ),
    '"$user", public, extensions');
end
$$;
comment on function rollcall.role_search_path is
  'The search_path that a role has in this database by ALTER ROLE or ALTER DATABASE.';

grant execute on function rollcall.role_search_path to anon, authenticated, service_role;

-- Times ---------------------------------------------------------------------------------------------------------------

-- Of one length and in UTC, for clients whose readers of ISO 8601 take one form only.
-- Invoker: reads nothing.
create function rollcall.iso_time(p_time timestamptz) returns text
  language sql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
  select case when isfinite(p_time) then to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    else p_time::text end
$$;
comment on function rollcall.iso_time is
  'A time as every answer of the server has it: RFC 3339 in UTC with three fractional digits.';
grant execute on function rollcall.iso_time to authenticated, service_role;

-- Generated columns ---------------------------------------------------------------------------------------------------

-- PostgreSQL 18 and later: triggers read such columns as null in the rows that a statement has changed. Earlier
-- versions have no such columns, and no statement pays for the search.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.has_virtual_column(p_table oid, p_columns text[] default null) returns boolean
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('server_version_num')::int < 180000 then
    return false;
  end if;
  return exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = p_table and a.attgenerated = 'v' and a.attnum > 0 and not a.attisdropped
      and (p_columns is null or a.attname::text = any (p_columns)));
end
$$;
comment on function rollcall_internal.has_virtual_column is
  'Whether a table has a virtual generated column, among some columns or all.';

-- Types ---------------------------------------------------------------------------------------------------------------

-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.base_type(p_type oid) returns oid
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  with recursive base (oid, parent) as (
    select t.oid, t.typbasetype from pg_catalog.pg_type t where t.oid = p_type
    union all
    select t.oid, t.typbasetype from base join pg_catalog.pg_type t on t.oid = base.parent
  )
  select base.oid from base where base.parent = 0
$$;
comment on function rollcall_internal.base_type is 'The type itself, or the type that a domain is based on.';

-- format_type would give the name `character` to bpchar, which means one character.
-- Invoker: reads catalogs only.
create function rollcall_internal.type_name(p_type oid) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', n.nspname, t.typname)
  from pg_catalog.pg_type t
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where t.oid = p_type
$$;
comment on function rollcall_internal.type_name is 'The qualified name of a type, for casts.';

-- Triggers, for the doctor --------------------------------------------------------------------------------------------

create table rollcall_internal.triggers (
  relation regclass not null,
  name name not null,
  definition text not null,
  constraint triggers_pkey primary key (relation, name)
);
comment on table rollcall_internal.triggers is
  'Triggers of Rollcall''s tables with their definitions, for rollcall doctor.';
-- No policies: for the doctor, as the owner.
alter table rollcall_internal.triggers enable row level security;

-- Without those of followed tables, which change with policies.
-- Invoker: for the owner.
create function rollcall_internal.record_triggers() returns bigint
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  delete from rollcall_internal.triggers w where true;
  insert into rollcall_internal.triggers (relation, name, definition)
    select t.tgrelid, t.tgname, pg_catalog.pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'rollcall_internal'::regnamespace
    where not t.tgisinternal and t.tgparentid = 0 and t.tgname not like 'rollcall\_%';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.record_triggers is
  'Records the triggers of Rollcalls tables, so that doctor can find and restore missing ones.';
