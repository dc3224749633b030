-- Module: channels
-- What the server reads from the catalogs to deliver `postgres_changes`. Nothing here decides who may see a row:
-- grants and row-level security do, evaluated as the subscriber.

create table rollcall_internal.change_settings (
  relation regclass primary key,
  delete_rls boolean not null default false
);
comment on table rollcall_internal.change_settings is
  'How changes of a table are delivered. delete_rls: a DELETE only to subscribers that row-level security lets see the '
  'row; without a row here this holds for tables of the schema rollcall only.';
-- No policies: the owner writes it, the server reads it.
alter table rollcall_internal.change_settings enable row level security;
revoke all on rollcall_internal.change_settings from anon, authenticated, service_role;

-- Invoker: for the owner.
create view rollcall.change_settings with (security_invoker = true) as
  select s.relation, s.delete_rls from rollcall_internal.change_settings s;
comment on view rollcall.change_settings is
  'How changes of a table are delivered. delete_rls: a DELETE only to subscribers that row-level security lets see the '
  'row; without a row here this holds for tables of the schema rollcall only.';
revoke all on rollcall.change_settings from anon, authenticated, service_role;

-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.published_tables(p_schema text, p_table text)
  returns table (relation oid, schema_name text, table_name text)
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select c.oid, t.schemaname::text, t.tablename::text
  from pg_catalog.pg_publication_tables t
  join pg_catalog.pg_namespace n on n.nspname = t.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  where t.pubname = 'supabase_realtime'
    and p_schema in ('*', t.schemaname)
    and p_table in ('*', t.tablename)
$$;
comment on function rollcall_internal.published_tables is
  'Published tables that a subscription selects; `*` selects all.';

-- PostgreSQL before 18 publishes no generated columns, although the catalog may list them.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.published_columns(p_relation oid) returns text[]
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select array(
    select a.attname::text
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_publication_tables t on t.schemaname = n.nspname and t.tablename = c.relname
      and t.pubname = 'supabase_realtime'
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = any (t.attnames)
    where c.oid = p_relation
      and (a.attgenerated = '' or current_setting('server_version_num')::int >= 180000)
    order by a.attnum
  )
$$;
comment on function rollcall_internal.published_columns is
  'Columns of a table that the publication supabase_realtime publishes.';

-- The operator of the type's default operator class, which only superusers create, or one in the type's schema. A
-- domain has the operators of its base type.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.operator_schema(p_type oid, p_name text) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  with recursive base (oid, parent, type_schema) as (
    select t.oid, t.typbasetype, t.typnamespace from pg_catalog.pg_type t where t.oid = p_type
    union all
    select t.oid, t.typbasetype, t.typnamespace
    from base
    join pg_catalog.pg_type t on t.oid = base.parent
  ),
  candidate (schema_oid, rank) as (
    select o.oprnamespace, case m.amname when 'btree' then 1 else 2 end
    from base
    join pg_catalog.pg_opclass k on k.opcintype = base.oid and k.opcdefault
    join pg_catalog.pg_am m on m.oid = k.opcmethod and m.amname in ('btree', 'hash')
    join pg_catalog.pg_amop p on p.amopfamily = k.opcfamily and p.amoplefttype = base.oid and p.amoprighttype = base.oid
    join pg_catalog.pg_operator o on o.oid = p.amopopr and o.oprname = p_name
    where base.parent = 0
    union all
    select o.oprnamespace, 3
    from base
    join pg_catalog.pg_operator o on o.oprleft = base.oid and o.oprname = p_name and o.oprnamespace = base.type_schema
    where base.parent = 0
  )
  select coalesce((
    select quote_ident(n.nspname)
    from candidate
    join pg_catalog.pg_namespace n on n.oid = candidate.schema_oid
    order by candidate.rank
    limit 1
  ), 'pg_catalog')
$$;
comment on function rollcall_internal.operator_schema is
  'Quoted schema of the operator with which values of a type compare.';

-- To everyone (0), or to a role whose privileges it has.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.policy_applies(p_roles oid[], p_role oid) returns boolean
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return exists (select from unnest(p_roles) as applies (oid) where applies.oid = 0
    or pg_has_role(p_role, applies.oid, 'usage'));
end
$$;
comment on function rollcall_internal.policy_applies is 'Whether policies for these roles apply to a role.';

-- Invoker: reads a table that the server may read, and catalogs.
create function rollcall_internal.delete_is_secured(p_relation oid) returns boolean
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select s.delete_rls from rollcall_internal.change_settings s where s.relation = p_relation),
    (select c.relnamespace = 'rollcall'::regnamespace from pg_catalog.pg_class c where c.oid = p_relation))
$$;
comment on function rollcall_internal.delete_is_secured is
  'Whether a DELETE of a table is delivered only to those whom row-level security let see the row.';

-- See change_access. One row. The expressions are read as text, which is evaluated, and as trees, which show what
-- PostgreSQL does not record: references to the whole row, and functions of its own. Columns are recorded as
-- dependencies.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.change_condition(p_relation oid, p_role oid)
  returns table (condition text, reads text[], read_types text[], is_steady boolean)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
#variable_conflict use_column
begin
  return query
  with policy as materialized (
    select p.oid, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as says, p.polqual::text as tree
    from pg_catalog.pg_policy p
    where p.polrelid = p_relation and p.polcmd in ('r', '*') and p.polqual is not null
      and rollcall_internal.policy_applies(p.polroles, p_role)
  ),
  column_read as (
    select a.attname, format_type(a.atttypid, a.atttypmod) as of,
      -- The value must survive a conversion to text and back, with the same collation.
      a.attcollation in (0, t.typcollation) and t.typname !~ '^reg' as survives
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped and a.attnum in (
      select d.refobjsubid
      from policy
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = policy.oid
        and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p_relation
    )
  )
  select
    -- The row is relation 1 of the outermost level; column 0 is the whole row, system columns are negative.
    case when not exists (select from policy where tree ~ '\{VAR (?!:varno \d+ :varattno [1-9])(?!:varno (?!1 )\d)')
      and not exists (select from column_read where not survives)
    then coalesce((
      -- Without a permissive policy no row is visible.
      select '(' || string_agg('(' || says || ')', ' or ') filter (where polpermissive) || ')'
        || coalesce(' and ' || string_agg('(' || says || ')', ' and ') filter (where not polpermissive), '')
      from policy
    ), 'false') end,
    array(select attname::text from column_read order by attname),
    array(select of from column_read order by attname),
    not exists (
      select from policy
      cross join regexp_matches(policy.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') as called (part)
      join pg_catalog.pg_proc f on f.oid = called.part[1]::oid
      where f.provolatile = 'v'
    ) and not exists (select from policy where tree ~ 'TABLESAMPLECLAUSE');
end
$$;
comment on function rollcall_internal.change_condition is
  'The policies of a table for a role, as a condition over values.';

-- One row per table and role; none for a table that does not exist.
--   is_known       the role exists
--   columns        columns that the role may select
--   key            columns of the primary key
--   is_exempt      row-level security does not apply to the role
--   owner_columns  if every policy that applies compares a uuid column with auth.uid() for equality: these columns; a
--               row is
--                  visible if one of them holds the viewer's id. Null if a policy says anything else
--   name           the table's name, quoted, under which the condition knows its columns
--   condition      the policies, with qualified names; null where they cannot be evaluated on values: a policy reads
--               the whole
--                  row, a system column, or a column whose value does not survive as text
--   reads          columns that the condition reads, with their types in read_types
--   is_steady      equal values give equal results within one statement: no function in it is volatile
-- Only policies for roles whose privileges the role has apply, as in PostgreSQL; membership alone is not enough.
-- Invoker: reads catalogs that every role may read.
-- Over 60 lines: one statement.
create function rollcall_internal.change_access(p_relations oid[], p_roles text[])
  returns table (
    relation oid, role text, is_known boolean, columns text[], key text[], key_types text[], qualified text,
    is_secured boolean, is_exempt boolean, deletes_are_secured boolean, owner_columns text[],
    name text, condition text, reads text[], read_types text[], is_steady boolean
  )
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
#variable_conflict use_column
begin
  return query
  select c.oid, requested.role, r.oid is not null,
    case when r.oid is null or not has_schema_privilege(r.oid, c.relnamespace, 'usage') then '{}'
      else array(
        select a.attname::text
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
        order by a.attnum
      )
    end,
    k.names, k.types, format('%I.%I', n.nspname, c.relname),
    c.relrowsecurity, bound.is_exempt,
    rollcall_internal.delete_is_secured(c.oid),
    owned.columns, quote_ident(c.relname), asks.condition, asks.reads, asks.read_types, asks.is_steady
  from unnest(p_relations) as wanted (oid)
  join pg_catalog.pg_class c on c.oid = wanted.oid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  cross join unnest(p_roles) as requested (role)
  left join pg_catalog.pg_roles r on r.rolname = requested.role
  cross join lateral (
    select not c.relrowsecurity
      or coalesce(r.rolsuper or r.rolbypassrls
        or not c.relforcerowsecurity and pg_has_role(r.oid, c.relowner, 'usage'), false) as is_exempt
  ) bound
  cross join lateral (
    select coalesce(array_agg(a.attname::text order by part.place), '{}') as names,
      coalesce(array_agg(format('%I.%I', tn.nspname, t.typname) order by part.place), '{}') as types
    from pg_catalog.pg_index i
    cross join unnest(i.indkey::int2[]) with ordinality as part (attnum, place)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
    where i.indrelid = c.oid and i.indisprimary and part.place <= i.indnkeyatts
  ) k
  cross join lateral (
    select case
      when bool_and(p.polpermissive and own.attname is not null) is not false and (
        -- auth.uid() reads the claims directly; blanks and parentheses do not matter.
        select regexp_replace(f.prosrc, '[\s();]', '', 'g') from pg_catalog.pg_proc f
          where f.oid = to_regprocedure('auth.uid()')
      ) = 'selectcoalescenullifcurrent_setting''request.jwt.claim.sub'',true,'''','
        'nullifcurrent_setting''request.jwt.claims'',true,''''::jsonb->>''sub''::uuid'
      then coalesce(array_agg(own.attname::text) filter (where own.attname is not null), '{}')
    end as columns
    from pg_catalog.pg_policy p
    left join lateral (
      select a.attname
      from pg_catalog.pg_attribute a
      where a.attrelid = p.polrelid and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype
        and pg_get_expr(p.polqual, p.polrelid) in (
          format('(%I = auth.uid())', a.attname), format('(auth.uid() = %I)', a.attname),
          format('(%I = ( SELECT auth.uid() AS uid))', a.attname),
            format('(( SELECT auth.uid() AS uid) = %I)', a.attname)
        )
    ) own on true
    where p.polrelid = c.oid and p.polcmd in ('r', '*') and rollcall_internal.policy_applies(p.polroles, r.oid)
  ) owned
  left join lateral rollcall_internal.change_condition(c.oid, r.oid) asks on c.relrowsecurity and not bound.is_exempt;
end
$$;
comment on function rollcall_internal.change_access is 'What roles may read of tables that are subscribed to.';

-- A backend writes its commit to the WAL before it leaves the list of running transactions. Ids come without their
-- epoch.
-- Invoker: reads snapshots only.
create function rollcall_internal.wait_until_visible(p_xids bigint[]) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_next constant bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  v_xid bigint;
begin
  foreach v_xid in array p_xids loop
    -- The full id is the one within 2^31 of the next.
    v_xid := v_xid + (v_next - v_next % 4294967296);
    v_xid := v_xid - case when v_xid - v_next > 2147483648 then 4294967296 else 0 end;
    v_xid := v_xid + case when v_next - v_xid > 2147483648 then 4294967296 else 0 end;
    while not pg_visible_in_snapshot(v_xid::text::xid8, pg_current_snapshot()) loop
      perform pg_sleep(0.0005);
    end loop;
  end loop;
end
$$;
comment on function rollcall_internal.wait_until_visible is
  'Waits until committed transactions are visible to new snapshots.';

-- Patterns and the keywords of `is` stay as they are.
-- Invoker: casts only.
create function rollcall_internal.canonical_literals(p_type oid, p_operator text, p_value text) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := rollcall_internal.type_name(p_type);
  v_literals text[];
begin
  if p_operator in ('is', 'like', 'ilike', 'match', 'imatch') then
    return array[p_value];
  end if;
  if p_operator = 'in' then
    execute format('select coalesce(array_agg(case when num_nulls(v) = 0 then format(''%%s'', v) end order by place), '
      '''{}'') '
      'from unnest($1::%s[]) with ordinality as list (v, place)', v_type)
      into v_literals using p_value;
  else
    -- Not a cast to text, which differs from the output function for some types: true instead of t.
    execute format('select array[format(''%%s'', $1::%s)]', v_type) into v_literals using p_value;
  end if;
  return v_literals;
end
$$;
comment on function rollcall_internal.canonical_literals is
  'The literals of a filter in the types output form, one per list member.';

-- As the server evaluates filters: with the operators of the type.
-- Invoker: compares literals only.
create function rollcall_internal.filter_matches(p_type oid, p_operator text, p_negated boolean, p_value text,
  p_values text[])
  returns boolean[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_equality constant text := rollcall_internal.operator_schema(p_type, '=');
  v_pattern constant text := rollcall_internal.operator_schema(p_type, '~~');
  v_type constant text := rollcall_internal.type_name(p_type);
  v_test text;
  v_holds boolean[];
begin
  v_test := case p_operator
    when 'in' then format('v::%1$s operator(%2$s.=) any ($2::%1$s[])', v_type, v_equality)
    when 'isdistinct' then format('not coalesce(v::%1$s operator(%2$s.=) $2::%1$s, false)', v_type, v_equality)
    when 'like' then format('v::%s operator(%s.~~) $2', v_type, v_pattern)
    when 'ilike' then format('v::%s operator(%s.~~*) $2', v_type, v_pattern)
    when 'match' then format('v::%s operator(%s.~) $2', v_type, v_pattern)
    when 'imatch' then format('v::%s operator(%s.~*) $2', v_type, v_pattern)
    else format('v::%1$s operator(%2$s.%3$s) $2::%1$s', v_type, v_equality, case p_operator
      when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<=' when 'gt' then '>'
      when 'gte' then '>=' end)
  end;
  execute format(
    'select array_agg(coalesce((%s) <> $3, false) order by place) '
    'from unnest($1) with ordinality as list (v, place)', v_test
  ) into v_holds using p_values, p_value, p_negated;
  return v_holds;
end
$$;
comment on function rollcall_internal.filter_matches is
  'Which of some values match a filter, in their order; never null.';

-- Some types compare their members only when there are values, so the literal is compared with itself.
-- Invoker: compares literals only.
create function rollcall_internal.check_operator(p_type oid, p_operator text, p_value text) returns void
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_literals constant text[] := rollcall_internal.canonical_literals(p_type, p_operator, p_value);
begin
  perform rollcall_internal.filter_matches(p_type, p_operator, false, p_value, v_literals);
exception when undefined_function then
  raise exception 'operator % requires a column type with that comparison, got %',
    p_operator, format_type(p_type, null);
end
$$;
comment on function rollcall_internal.check_operator is 'Raises an error if a type has no operator for a filter.';

-- With the messages of Supabase Realtime's trigger.
-- Invoker: reads privileges of a role and casts literals.
-- Over 60 lines: one check per operator.
create function rollcall_internal.check_change_params(
  p_relation oid, p_role text, p_columns text[], p_operators text[], p_values text[], p_select text[]
) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_role constant oid := (select r.oid from pg_catalog.pg_roles r where r.rolname = p_role);
  v_readable constant text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(v_role, p_relation, a.attnum, 'select')
  );
  v_published constant text[] := rollcall_internal.published_columns(p_relation);
  v_type oid;
  v_shown text;
  v_castable text;
begin
  if v_role is null then
    raise exception using errcode = 'undefined_object', message = format('role "%s" does not exist', p_role);
  end if;
  for i in 1 .. coalesce(cardinality(p_columns), 0) loop
    if not p_columns[i] = any (v_readable) then
      raise exception 'invalid column for filter %', p_columns[i];
    elsif not p_columns[i] = any (v_published) then
      raise exception 'invalid column for filter %: the publication supabase_realtime does not publish it',
        p_columns[i];
    end if;
    select t.oid, format_type(t.oid, null), format('%I.%I', n.nspname, t.typname) into v_type, v_shown, v_castable
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      where a.attrelid = p_relation and a.attname = p_columns[i];
    case p_operators[i]
      when 'in' then
        if cardinality(rollcall_internal.canonical_literals(v_type, 'in', p_values[i])) > 100 then
          raise exception 'too many values for `in` filter. Maximum 100';
        end if;
        perform rollcall_internal.check_operator(v_type, p_operators[i], p_values[i]);
      when 'is' then
        if lower(p_values[i]) not in ('null', 'true', 'false', 'unknown') then
          raise exception 'invalid value for is filter: must be null, true, false, or unknown';
        elsif lower(p_values[i]) <> 'null' and v_type <> 'boolean'::regtype then
          raise exception 'is % filter requires a boolean column, got %', p_values[i], v_shown;
        end if;
      when 'like', 'ilike', 'match', 'imatch' then
        if not exists (
          select from pg_catalog.pg_operator o
          where o.oprname = '~~' and o.oprleft = rollcall_internal.base_type(v_type)
        ) and rollcall_internal.base_type(v_type) not in ('varchar'::regtype, 'text'::regtype) then
          raise exception 'operator % requires a text-compatible column type, got %', p_operators[i], v_shown;
        end if;
        if p_operators[i] in ('match', 'imatch') then
          begin
            perform '' ~ p_values[i];
          exception when invalid_regular_expression then
            raise exception 'invalid regular expression for % filter: %', p_operators[i], sqlerrm;
          end;
        end if;
      else
        perform rollcall_internal.check_operator(v_type, p_operators[i], p_values[i]);
    end case;
  end loop;
  for i in 1 .. coalesce(cardinality(p_select), 0) loop
    if not p_select[i] = any (v_readable) then
      raise exception 'invalid column for select %', p_select[i];
    elsif not p_select[i] = any (v_published) then
      raise exception 'invalid column for select %: the publication supabase_realtime does not publish it', p_select[i];
    end if;
  end loop;
end
$$;
comment on function rollcall_internal.check_change_params is
  'Raises an error for filters and columns that a subscription may not use.';

-- For types that the server cannot render.
-- Invoker: casts only.
create function rollcall_internal.render_values(p_type oid, p_values text[]) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := rollcall_internal.type_name(p_type);
  v_json text[];
begin
  execute format(
    'select array_agg(to_jsonb(v::%s)::text order by place) from unnest($1) with ordinality as list (v, place)', v_type
  ) into v_json using p_values;
  return v_json;
end
$$;
comment on function rollcall_internal.render_values is 'Values as to_jsonb writes them, in their order.';

-- One row per note; none if every change may be delivered.
-- Invoker: reads catalogs that every role may read.
-- Over 60 lines: one statement.
create function rollcall_internal.change_notes(p_relation oid, p_role text) returns setof text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with found as (
    select a.*, p_relation::regclass::text as shown, a.is_secured and not a.is_exempt as is_bound,
      coalesce(a.condition = 'false' or a.owner_columns = '{}', false) as is_barred
    from rollcall_internal.change_access(array[p_relation], array[p_role]) a
  )
  select note.says
  from found f
  left join lateral (
    select string_agg(name, ', ') as columns
    from unnest(f.reads) as read (name)
    where not exists (
      select from pg_catalog.pg_class c
      left join pg_catalog.pg_index i on i.indrelid = c.oid
        and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = read.name
      where c.oid = p_relation and (c.relreplident = 'f' or a.attnum = any (i.indkey::int2[]))
    )
  ) unknown on true
  left join lateral (
    select nullif(concat_ws(', ', case when not p.pubinsert then 'INSERT' end, case when not p.pubupdate
      then 'UPDATE' end,
      case when not p.pubdelete then 'DELETE' end), '') as left_out,
      (select t.rowfilter from pg_catalog.pg_publication_tables t
       join pg_catalog.pg_namespace n on n.nspname = t.schemaname
       join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
       where t.pubname = p.pubname and c.oid = p_relation) as rowfilter
    from pg_catalog.pg_publication p
    where p.pubname = 'supabase_realtime'
  ) published on true
  -- Functions that policies call, in schemas that the server may not use: it resolves the names as itself.
  cross join lateral (
    select string_agg(distinct format('%I.%I', n.nspname, c.proname), ', ') as functions
    from pg_catalog.pg_policy p
    join pg_catalog.pg_roles r on r.rolname = p_role
    cross join regexp_matches(p.polqual::text, ':funcid (\d+)', 'g') as called (part)
    join pg_catalog.pg_proc c on c.oid = called.part[1]::oid
    join pg_catalog.pg_namespace n on n.oid = c.pronamespace
    where p.polrelid = p_relation and p.polcmd in ('r', '*') and not has_schema_privilege(n.oid, 'usage')
      and rollcall_internal.policy_applies(p.polroles, r.oid)
  ) closed
  -- Only columns that the role may select are named.
  cross join lateral (
    select string_agg(a.attname, ', ' order by a.attnum) filter (where not kind.is_generated) as columns,
      string_agg(a.attname, ', ' order by a.attnum) filter (where kind.is_generated) as generated
    from pg_catalog.pg_attribute a
    cross join lateral (
      select a.attgenerated <> '' and current_setting('server_version_num')::int < 180000 as is_generated
    ) kind
    where a.attrelid = p_relation and a.attnum > 0 and a.attname::text = any (f.columns)
      and not a.attname::text = any (rollcall_internal.published_columns(p_relation))
  ) absent
  cross join lateral (values
    (not f.is_known, format('there is no role %s', p_role)),
    (f.is_known and (f.columns = '{}' or not f.key <@ f.columns),
      format('the role %s may not select the primary key of %s: its changes come as errors, once', p_role, f.shown)),
    (f.key = '{}', format('%s has no primary key: its INSERTs and UPDATEs come as errors, once', f.shown)),
    (f.is_bound and f.is_barred,
      format('row-level security of %s is on, and no policy lets the role %s select: '
        'none of its INSERTs and UPDATEs come', f.shown, p_role)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and f.condition is null,
      format('no DELETE of %s comes: its policies take the row as a whole, and cannot be asked about one that is gone',
        f.shown)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and unknown.columns is not null,
      format('no DELETE of %1$s comes: policies read %2$s, which is not in its replica identity '
        '(alter table %1$s replica identity full)', f.shown, unknown.columns)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and closed.functions is not null,
      format('no DELETE of %s comes: its policies call %s, in a schema that the server''s role %s may not use',
        f.shown, closed.functions, current_user)),
    (published.left_out is not null, format('the publication supabase_realtime does not publish %s',
      published.left_out)),
    (absent.columns is not null, format('the publication supabase_realtime does not publish these columns of %s: %s',
      f.shown, absent.columns)),
    (absent.generated is not null, format('PostgreSQL before 18 does not publish generated columns, so these columns '
      'of %s do not come: %s', f.shown, absent.generated)),
    (published.rowfilter is not null, format('of %s the publication supabase_realtime publishes only rows with %s',
      f.shown, published.rowfilter))
  ) as note (is_so, says)
  where note.is_so;
end
$$;
comment on function rollcall_internal.change_notes is 'Which changes of a table a role never receives, and why.';

-- `p_claims` as in the subscriber's token, `p_key` the primary key as an object, `p_filter` one condition of the
-- subscription (`column=op.value`) or empty. One row per reason; `delivered` is equal in all of them. Includes
-- change_notes.
-- Invoker: it assumes the subscriber's role, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies.
-- Over 60 lines: the checks of the server, in its order.
create function rollcall.explain_change(p_claims jsonb, p_relation regclass, p_key jsonb, p_filter text default '')
  returns table (delivered boolean, reason text)
  language plpgsql volatile security invoker
as $$
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_role constant pg_catalog.text := coalesce(p_claims ->> 'role', 'anon');
  -- Under the table's own name, which policies use.
  v_name constant pg_catalog.text := (select quote_ident(c.relname)
    from pg_catalog.pg_class c where c.oid = p_relation);
  v_oid pg_catalog.oid;
  v_access record;
  v_where pg_catalog.text;
  v_exists boolean;
  v_delivered boolean;
  v_filter pg_catalog.text[];
  v_type pg_catalog.oid;
  v_value pg_catalog.text;
  v_holds boolean;
  v_policy record;
  v_reasons pg_catalog.text[] := '{}';
begin
  if not exists (select from rollcall_internal.published_tables('*', '*') p where p.relation = p_relation) then
    return query select false, pg_catalog.format('%s is not in the publication supabase_realtime', p_relation);
    return;
  end if;
  select * into v_access from rollcall_internal.change_access(array[p_relation::pg_catalog.oid], array[v_role]);
  if not v_access.is_known then
    return query select false, pg_catalog.format('there is no role %s', v_role);
    return;
  elsif pg_catalog.cardinality(v_access.key) = 0 then
    return query select false, pg_catalog.format('%s has no primary key', p_relation);
    return;
  elsif not v_access.key <@ v_access.columns then
    return query select false,
      pg_catalog.format('the role %s may not select the primary key of %s (grants)', v_role, p_relation);
    return;
  end if;
  select pg_catalog.format('from %s as %s where ', v_access.qualified, v_name)
      || pg_catalog.string_agg(pg_catalog.format('%s.%I = %L::%s', v_name, k.name, p_key ->> k.name, k.of), ' and ')
        into v_where
    from unnest(v_access.key, v_access.key_types) as k (name, of);
  execute pg_catalog.format('select exists (select %s)', v_where) into v_exists;
  if not v_exists then
    return query select false, 'there is no such row (any more)';
    return;
  end if;

  if p_filter <> '' then
    v_filter := regexp_match(p_filter, '^([^=]+)=(not\.)?([a-z]+)\.(.*)$');
    if v_filter is null or not v_filter[1] = any (v_access.columns) then
      return query select false, pg_catalog.format('the filter %s names no column that the role may select', p_filter);
      return;
    elsif not v_filter[1] = any (rollcall_internal.published_columns(p_relation)) then
      return query select false,
        pg_catalog.format('the filter %s names a column that the publication supabase_realtime does not publish',
          p_filter);
      return;
    end if;
    -- Within quotes, \x stands for x.
    if v_filter[3] <> 'in' and v_filter[4] like '"%"' then
      v_filter[4] := regexp_replace(substr(v_filter[4], 2, length(v_filter[4]) - 2), '\\(.)', '\1', 'g');
    end if;
    select atttypid into v_type from pg_catalog.pg_attribute where attrelid = p_relation and attname = v_filter[1];
    execute pg_catalog.format('select %s.%I::pg_catalog.text %s', v_name, v_filter[1], v_where) into v_value;
    if v_filter[3] = 'is' then
      v_holds := coalesce(v_value, 'null') = replace(v_filter[4], 'unknown', 'null');
      v_holds := v_holds <> (v_filter[2] is not null);
    else
      v_holds := (rollcall_internal.filter_matches(v_type, v_filter[3], v_filter[2] is not null,
        case when v_filter[3] = 'in' then '{' || trim(both '()' from v_filter[4]) || '}' else v_filter[4] end,
        array[v_value]))[1];
    end if;
    if not v_holds then
      return query select false, pg_catalog.format('the filter %s does not hold', p_filter);
      return;
    end if;
  end if;

  if v_access.is_exempt then
    return query select true, case
      when v_access.is_secured then pg_catalog.format('row-level security does not bind the role %s', v_role)
      else pg_catalog.format('%s has no row-level security, and the role %s may select it', p_relation, v_role)
    end
    union all
    select true, n from rollcall_internal.change_notes(p_relation, v_role) n;
    return;
  end if;

  perform set_config('request.jwt.claims', p_claims::pg_catalog.text, true),
    set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
    set_config('request.jwt.claim.role', v_role, true);
  begin
    perform set_config('search_path', rollcall.role_search_path(v_role), true), set_config('role', v_role, true);
    execute pg_catalog.format('select exists (select %s)', v_where) into v_delivered;
    perform set_config('role', 'none', true), set_config('search_path', v_own_path, true);
  exception when others then
    perform set_config('role', 'none', true);
    return query select false, pg_catalog.format('row-level security of %s raises for this subscriber: %s', p_relation,
      sqlerrm);
    return;
  end;
  -- Each policy that applies, alone. What a policy reads elsewhere is read with the rights of the session here, so
  -- only the result above counts.
  select oid into v_oid from pg_catalog.pg_roles where rolname = v_role;
  for v_policy in
    select p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as condition
    from pg_catalog.pg_policy p
    where p.polrelid = p_relation and p.polcmd in ('r', '*')
      and rollcall_internal.policy_applies(p.polroles, v_oid)
    order by p.polpermissive, p.polname
  loop
    begin
      execute pg_catalog.format('select coalesce(%s, false) %s', coalesce(v_policy.condition, 'false'), v_where)
        into v_holds;
    exception when others then
      v_holds := null;
    end;
    v_reasons := v_reasons || pg_catalog.format('the %s policy "%s" %s',
      case when v_policy.polpermissive then 'permissive' else 'restrictive' end, v_policy.polname,
      case when v_holds then 'lets it through' when v_holds is null then 'cannot be looked at alone'
        else 'does not let it through' end);
  end loop;
  if pg_catalog.cardinality(v_reasons) = 0 then
    v_reasons := array[pg_catalog.format('row-level security is on, and no policy lets the role %s select', v_role)];
  end if;
  return query select v_delivered, r.reason from pg_catalog.unnest(v_reasons || array(select n
    from rollcall_internal.change_notes(p_relation, v_role) n))
    as r (reason);
end
$$;
comment on function rollcall.explain_change is 'Why a change of a row is delivered to a subscriber, or not.';
