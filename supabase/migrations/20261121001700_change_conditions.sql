-- What row-level security says of a row as a condition over values: for the old row of a DELETE, which no `select` finds
-- any more, and for rows that are alike in everything that the policies read, of which one has to be looked at.
-- Invariant: the condition is the policies' own expressions, put together as PostgreSQL puts them together. Where that
-- cannot be had exactly there is none, and `select` alone tells.

-- Whether policies for some roles apply to a role: to everybody (0), or to a role whose privileges it has.
-- Invoker: reads catalogues that everybody may read.
create function rollcall.policy_binds(p_roles oid[], p_role oid) returns boolean
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return exists (select from unnest(p_roles) as applies (oid) where applies.oid = 0 or pg_has_role(p_role, applies.oid, 'usage'));
end
$$;
comment on function rollcall.policy_binds is 'Whether policies for these roles apply to a role.';

-- The condition of a table's policies for a role; see change_access. One row.
-- The expressions are read as text, which is what is asked, and as trees, which say what PostgreSQL has no record of: the row
-- as a whole, and functions of its own. Columns are recorded as dependencies.
-- Invoker: reads catalogues that everybody may read.
create function rollcall.change_condition(p_relation oid, p_role oid)
  returns table (condition text, reads text[], read_types text[], is_steady boolean)
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
#variable_conflict use_column
begin
  return query
  with policy as materialized (
    select p.oid, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as says, p.polqual::text as tree
    from pg_catalog.pg_policy p
    where p.polrelid = p_relation and p.polcmd in ('r', '*') and p.polqual is not null
      and rollcall.policy_binds(p.polroles, p_role)
  ),
  column_read as (
    select a.attname, format_type(a.atttypid, a.atttypmod) as of,
      -- As text and back it must be the same value, of the same collation.
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
    -- The row is relation 1 of the outermost level, whose column 0 is all of it and whose system columns are below that.
    case when not exists (select from policy where tree ~ '\{VAR (?!:varno \d+ :varattno [1-9])(?!:varno (?!1 )\d)')
      and not exists (select from column_read where not survives)
    then coalesce((
      -- Without a permissive policy nobody sees anything.
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
comment on function rollcall.change_condition is 'What the policies of a table say of a row to a role, as a condition over values.';

drop function rollcall.change_access(oid[], text[]);

-- As before, and with it:
-- `name`: the table's name, quoted, under which the condition knows its columns.
-- `condition`: what row-level security says of a row, with names qualified; null where it cannot be asked of values: a
-- policy takes the row as a whole, or a system column, or a column whose value would not survive as text.
-- `reads`, `read_types`: the columns of the row that it reads, and their types.
-- `is_steady`: it says the same of equal values within one statement: no function in it is volatile.
-- Only policies whose roles the asking role has the use of apply, as in PostgreSQL; being a member is not enough.
-- Invoker: reads catalogues that everybody may read.
create function rollcall.change_access(p_relations oid[], p_roles text[])
  returns table (
    relation oid, role text, is_known boolean, columns text[], key text[], key_types text[], qualified text,
    is_secured boolean, is_exempt boolean, deletes_are_secured boolean, owner_columns text[],
    name text, condition text, reads text[], read_types text[], is_steady boolean
  )
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
#variable_conflict use_column
begin
  return query
  select c.oid, asked.role, r.oid is not null,
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
    coalesce((select s.delete_rls from rollcall.change_settings s where s.relation = c.oid), false),
    owned.columns, quote_ident(c.relname), asks.condition, asks.reads, asks.read_types, asks.is_steady
  from unnest(p_relations) as wanted (oid)
  join pg_catalog.pg_class c on c.oid = wanted.oid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  cross join unnest(p_roles) as asked (role)
  left join pg_catalog.pg_roles r on r.rolname = asked.role
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
        -- Read from the claims as they come, whatever the blanks and parentheses around it.
        select regexp_replace(f.prosrc, '[\s();]', '', 'g') from pg_catalog.pg_proc f where f.oid = to_regprocedure('auth.uid()')
      ) = 'selectcoalescenullifcurrent_setting''request.jwt.claim.sub'',true,'''',nullifcurrent_setting''request.jwt.claims'',true,''''::jsonb->>''sub''::uuid'
      then coalesce(array_agg(own.attname::text) filter (where own.attname is not null), '{}')
    end as columns
    from pg_catalog.pg_policy p
    left join lateral (
      select a.attname
      from pg_catalog.pg_attribute a
      where a.attrelid = p.polrelid and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype
        and pg_get_expr(p.polqual, p.polrelid) in (
          format('(%I = auth.uid())', a.attname), format('(auth.uid() = %I)', a.attname),
          format('(%I = ( SELECT auth.uid() AS uid))', a.attname), format('(( SELECT auth.uid() AS uid) = %I)', a.attname)
        )
    ) own on true
    where p.polrelid = c.oid and p.polcmd in ('r', '*') and rollcall.policy_binds(p.polroles, r.oid)
  ) owned
  left join lateral rollcall.change_condition(c.oid, r.oid) asks on c.relrowsecurity and not bound.is_exempt;
end
$$;
comment on function rollcall.change_access is 'What roles may read of tables whose changes are told.';

revoke execute on all functions in schema rollcall from public;
