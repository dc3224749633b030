-- Module: channels
-- Which tables policies depend on, for private channels and for visibility.

-- Tables that policies name (by pg_depend), that functions with a parsed body name, whose names occur in the text of
-- any other function they call, directly or indirectly, and partitions of all these. The result may contain too many
-- tables; it lacks one only where a function builds a name at run time. Functions in the schemas p_closed are not
-- examined.
-- Definer: reads catalogs only.
-- Over 60 lines: one recursive statement.
create function rollcall_internal.policy_objects(p_tables regclass[], p_closed text[])
  returns table (classid oid, objid oid)
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with recursive
  needed (classid, objid) as (
    select d.refclassid, d.refobjid
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = any (p_tables)
      and d.refobjid <> p.polrelid
    union
    select following.refclassid, following.refobjid
    from needed n
    cross join lateral (
      select d.refclassid, d.refobjid
      from pg_catalog.pg_depend d
      where n.classid = 'pg_catalog.pg_proc'::regclass and d.classid = n.classid and d.objid = n.objid
      union
      -- A view stands for the tables that it reads.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and r.ev_class = n.objid and d.refobjid <> n.objid
      union
      -- Row-level security of a table that a policy reads counts as well.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_policy p
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = n.objid
      union
      -- A statement on a partition or child does not fire the triggers of its parent.
      select 'pg_catalog.pg_class'::regclass, i.inhrelid
      from pg_catalog.pg_inherits i
      where n.classid = 'pg_catalog.pg_class'::regclass and i.inhparent = n.objid
      union
      select named.classid, named.objid
      from pg_catalog.pg_proc f
      join (
        select 'pg_catalog.pg_class'::regclass, c.oid, c.relname, c.relnamespace, '($|[^a-z0-9_])'
        from pg_catalog.pg_class c where c.relkind in ('r', 'p', 'v', 'm')
        union all
        select 'pg_catalog.pg_proc'::regclass, g.oid, g.proname, g.pronamespace, '"?\s*\(' from pg_catalog.pg_proc g
      ) named (classid, objid, name, namespace, ending)
        on position(lower(named.name) in lower(f.prosrc)) > 0
        and f.prosrc ~* ('(^|[^a-z0-9_])' || regexp_replace(named.name, '([^a-z0-9_])', '\\\1', 'gi') || named.ending)
      join pg_catalog.pg_namespace s on s.oid = named.namespace
        and s.nspname !~ '^pg_' and s.nspname not in ('information_schema', 'rollcall_internal')
        -- Tables of Rollcall count, its functions only where they are to be examined.
        and (s.nspname <> all (p_closed) or s.nspname = 'rollcall' and named.classid = 'pg_catalog.pg_class'::regclass)
      where n.classid = 'pg_catalog.pg_proc'::regclass and f.oid = n.objid
        and f.prosqlbody is null
        and f.pronamespace not in (
          select own.oid from pg_catalog.pg_namespace own where own.nspname = 'pg_catalog'
            or own.nspname = any (p_closed))
    ) following
    where following.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
  )
  select n.classid, n.objid from needed n
$$;
comment on function rollcall_internal.policy_objects is
  'Tables, views and functions that the policies on some tables depend on.';

-- What the last analysis of the policies on some tables examined. DDL that concerns none of it needs no other analysis.
create table rollcall_internal.examined_policies (
  purpose text not null constraint examined_policies_pkey primary key,
  tables text[] not null,
  closed_schemas text[] not null,
  objects oid[] not null default '{}',
  function_text text not null default ''
);
comment on table rollcall_internal.examined_policies is 'Which objects the policies depend on, one row per purpose.';
comment on column rollcall_internal.examined_policies.tables is 'Tables with the policies.';
comment on column rollcall_internal.examined_policies.objects is
  'Tables with the policies, and tables, views and functions that they depend on.';
comment on column rollcall_internal.examined_policies.function_text is
  'Bodies of these functions in lower case; an object that is created later and has a name in them is a dependency.';
-- No policies: for the functions below.
alter table rollcall_internal.examined_policies enable row level security;
insert into rollcall_internal.examined_policies (purpose, tables, closed_schemas) values
  ('visibility', '{rollcall.user_presence,rollcall.typing_indicators}', '{rollcall,rollcall_internal,auth}'),
  ('authorization', '{realtime.messages}', '{realtime,rollcall_internal}');

-- Definer: reads catalogs and a table that no API role may read.
create function rollcall_internal.policy_sources(p_purpose text) returns setof regclass
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select distinct c.oid::regclass
  from rollcall_internal.examined_policies e
  cross join lateral rollcall_internal.policy_objects(
    array(select to_regclass(t.name) from unnest(e.tables) t (name)), e.closed_schemas) o
  join pg_catalog.pg_class c on o.classid = 'pg_catalog.pg_class'::regclass and c.oid = o.objid
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace
  where e.purpose = p_purpose
    and c.relkind in ('r', 'p')
    and s.nspname not in ('rollcall_internal', 'pg_catalog', 'information_schema')
    and (s.nspname = 'rollcall' or s.nspname <> all (e.closed_schemas))
$$;
comment on function rollcall_internal.policy_sources is 'Tables that the policies on some tables depend on.';

-- Records what ddl_concerns_policies compares with. The OID of this function shows that the database was not restored
-- or upgraded since, after which all OIDs are others.
-- Definer: writes a table that no API role may write.
create function rollcall_internal.examine_policies(p_purpose text) returns void
  language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  with examined as (
    select e.purpose, e.closed_schemas, array(
      select o.objid
      from rollcall_internal.policy_objects(
        array(select to_regclass(t.name) from unnest(e.tables) t (name)), e.closed_schemas) o
      union select to_regclass(t.name)::oid from unnest(e.tables) t (name)
      union select 'rollcall_internal.examine_policies(text)'::regprocedure::oid
      order by 1) as objects
    from rollcall_internal.examined_policies e
    where e.purpose = p_purpose
  ),
  bodies as (
    select x.purpose, x.objects, (
      select coalesce(string_agg(lower(f.prosrc), ' ' order by f.oid), '')
      from pg_catalog.pg_proc f
      join pg_catalog.pg_namespace s on s.oid = f.pronamespace
      where f.oid = any (x.objects) and f.prosqlbody is null
        and s.nspname <> 'pg_catalog' and s.nspname <> all (x.closed_schemas)) as function_text
    from examined x
  )
  update rollcall_internal.examined_policies e set objects = b.objects, function_text = b.function_text
  from bodies b
  where e.purpose = b.purpose and (e.objects, e.function_text) is distinct from (b.objects, b.function_text)
$$;
comment on function rollcall_internal.examine_policies is 'Records on which objects the policies depend.';

-- Whether the statement made, replaced or altered something that policies depend on, or that a function which they call
-- names. Only in an event trigger.
-- Definer: reads catalogs only.
create function rollcall_internal.ddl_concerns_policies(p_purpose text) returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from pg_event_trigger_ddl_commands() command
    join rollcall_internal.examined_policies e on e.purpose = p_purpose
    where command.schema_name is distinct from 'pg_temp'
      and (
        'rollcall_internal.examine_policies(text)'::regprocedure <> all (e.objects)
        or command.objid = any (e.objects)
        or case command.classid
          when 'pg_catalog.pg_policy'::regclass then exists (
            select from pg_catalog.pg_policy p where p.oid = command.objid and p.polrelid = any (e.objects))
          when 'pg_catalog.pg_class'::regclass then exists (
            select from pg_catalog.pg_class c
            where c.oid = command.objid and (
              position(lower(c.relname) in e.function_text) > 0
              -- A partition, or another child.
              or exists (
                select from pg_catalog.pg_inherits i where i.inhrelid = c.oid and i.inhparent = any (e.objects))))
          when 'pg_catalog.pg_proc'::regclass then exists (
            select from pg_catalog.pg_proc f
            where f.oid = command.objid and position(lower(f.proname) in e.function_text) > 0)
          -- A rule belongs to a view.
          when 'pg_catalog.pg_rewrite'::regclass then exists (
            select from pg_catalog.pg_rewrite r where r.oid = command.objid and r.ev_class = any (e.objects))
          else false
        end
      )
  )
$$;
comment on function rollcall_internal.ddl_concerns_policies is
  'Whether the DDL statement may change on which tables policies depend.';

-- Invoker: returns a constant.
create function rollcall_internal.tags_of_new_dependencies() returns text[]
  language sql immutable security invoker
as $$
  select array['CREATE POLICY', 'ALTER POLICY', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
    'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE RULE',
    'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE PROCEDURE', 'ALTER ROUTINE', 'CREATE SCHEMA', 'CREATE EXTENSION']
$$;
comment on function rollcall_internal.tags_of_new_dependencies is
  'Kinds of DDL after which policies may depend on another table.';

-- Columns that policies, views and functions with a parsed body name. Null stands for all: where the text of a
-- function may name the table, where an expression reads whole rows, and for partitions and other children.
-- Definer: reads catalogs only.
create function rollcall_internal.columns_in_policies(p_purpose text, p_table regclass) returns text[]
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with e as (
    select x.objects, x.function_text from rollcall_internal.examined_policies x where x.purpose = p_purpose
  ),
  reader (classid, objid, tree) as (
    select 'pg_catalog.pg_policy'::regclass, p.oid, concat(p.polqual::text, p.polwithcheck::text)
    from e join pg_catalog.pg_policy p on p.polrelid = any (e.objects)
    union all
    select 'pg_catalog.pg_rewrite'::regclass, r.oid, r.ev_action::text
    from e join pg_catalog.pg_rewrite r on r.ev_class = any (e.objects)
    union all
    select 'pg_catalog.pg_proc'::regclass, f.oid, f.prosqlbody::text
    from e join pg_catalog.pg_proc f on f.oid = any (e.objects) and f.prosqlbody is not null
  ),
  reference as (
    select d.refobjsubid, reader.tree
    from reader
    join pg_catalog.pg_depend d on d.classid = reader.classid and d.objid = reader.objid
    where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p_table
  )
  select case when not exists (
      select from e join pg_catalog.pg_class c on c.oid = p_table
      where position(lower(c.relname) in e.function_text) > 0)
    -- A variable without a column is the whole row; system columns have negative numbers.
    and not exists (select from reference r where r.refobjsubid < 0 or position(':varattno 0 ' in r.tree) > 0)
    and not exists (select from pg_catalog.pg_inherits i where p_table in (i.inhrelid, i.inhparent))
  then array(
    select distinct a.attname::text
    from reference r
    join pg_catalog.pg_attribute a on a.attrelid = p_table and a.attnum = r.refobjsubid
    where r.refobjsubid > 0)
  end
$$;
comment on function rollcall_internal.columns_in_policies is
  'Columns of a table that the policies for a purpose read; null stands for all.';

-- Triggers on followed tables -----------------------------------------------------------------------------------------

-- As in pg_trigger.tgargs: each in the encoding of the database, with a zero byte after it.
-- Invoker: computes from its argument.
create function rollcall_internal.trigger_arguments(p_arguments text[]) returns bytea
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(convert_to(a.value, getdatabaseencoding()) || '\x00'::bytea, ''::bytea order by a.place),
    ''::bytea)
  from unnest(p_arguments) with ordinality as a (value, place)
$$;
comment on function rollcall_internal.trigger_arguments is 'Arguments of a trigger as the catalog stores them.';

-- A statement that reads some columns of old_rows and of new_rows, as two arrays of text. Values are compared as text,
-- because some types have no equality. The n-th row of both is the same one, so equal arrays mean that nothing changed.
-- Invoker: computes from its argument.
create function rollcall_internal.transitions_as_text(p_columns text[]) returns text
  language plpgsql immutable security invoker
as $$
declare
  v_columns constant pg_catalog.text := (
    select pg_catalog.string_agg(pg_catalog.format('t.%I', c.name), ', ')
    from pg_catalog.unnest(p_columns) as c (name));
begin
  return pg_catalog.format('select (select pg_catalog.array_agg(row(%1$s)::pg_catalog.text) from old_rows t),
    (select pg_catalog.array_agg(row(%1$s)::pg_catalog.text) from new_rows t)', v_columns);
end
$$;
comment on function rollcall_internal.transitions_as_text is
  'Statement of a trigger that reads some columns of the rows before and after an update.';

-- Makes a table have these triggers for each statement, and no others whose name matches p_pattern. p_triggers is an
-- array of objects with name, events, function (in rollcall_internal) and arguments (text[]); null stands for none.
-- Triggers of one event have the transition tables new_rows and old_rows. Triggers that are as they are wanted stay, so
-- that most calls take no lock on the table.
-- Invoker: needs the right to create triggers on that table.
create function rollcall_internal.set_triggers(p_table regclass, p_pattern text, p_triggers jsonb) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    with wanted as (
      select w.name, w.events, w.function, w.arguments, (
          select sum(case e.event when 'insert' then 4 when 'delete' then 8 when 'update' then 16 else 32 end)
          from regexp_split_to_table(w.events, ' or ') as e (event)) as type
      from jsonb_array_elements(p_triggers) as wanted (trigger)
      cross join lateral jsonb_to_record(case jsonb_typeof(wanted.trigger) when 'object' then wanted.trigger end)
        as w (name text, events text, function text, arguments text[])
      where w.name is not null
    )
    select coalesce(w.name, t.tgname) as name, w.events, w.function,
      case w.events
        when 'insert' then 'referencing new table as new_rows'
        when 'delete' then 'referencing old table as old_rows'
        when 'update' then 'referencing old table as old_rows new table as new_rows'
        else '' end as transitions,
      array_to_string(array(
        select quote_literal(a.value) from unnest(w.arguments) with ordinality as a (value, place) order by a.place),
        ', ') as arguments
    from wanted w
    full join (
      select t.tgname, t.tgtype, t.tgargs, f.proname
      from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
      where t.tgrelid = p_table and t.tgname ~ p_pattern
    ) t on t.tgname = w.name
    where (w.type, w.function, rollcall_internal.trigger_arguments(w.arguments))
      is distinct from (t.tgtype, t.proname, t.tgargs)
    -- Those that are dropped first, because their lock is the strongest.
    order by w.name is not null
  loop
    if v_trigger.events is null then
      execute format('drop trigger %I on %s', v_trigger.name, p_table);
    else
      execute format('create or replace trigger %I after %s on %s %s for each statement
        execute function rollcall_internal.%I(%s)', v_trigger.name, v_trigger.events, p_table, v_trigger.transitions,
        v_trigger.function, v_trigger.arguments);
    end if;
  end loop;
end
$$;
comment on function rollcall_internal.set_triggers is 'Makes a table have some triggers for each statement.';
