-- What the server asks of the catalogue to tell subscribers of `postgres_changes` which rows changed.
-- Invariant: nothing here decides who may see a row. Grants and row-level security do, asked as the subscriber.

-- The tables of the publication that a subscription means; `*` stands for all.
-- Invoker: reads catalogues that everybody may read.
create function rollcall.published_tables(p_schema text, p_table text)
  returns table (relation oid, schema_name text, table_name text)
  language sql stable security invoker set search_path = ''
as $$
  select c.oid, t.schemaname::text, t.tablename::text
  from pg_catalog.pg_publication_tables t
  join pg_catalog.pg_namespace n on n.nspname = t.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  where t.pubname = 'supabase_realtime'
    and p_schema in ('*', t.schemaname)
    and p_table in ('*', t.tablename)
$$;
comment on function rollcall.published_tables is 'The tables of the publication supabase_realtime that a subscription to changes means.';

-- Per table: whether a DELETE is told to everybody, as on Supabase, or only to those whom row-level security does not
-- bind. Nobody else can be asked about a row that is gone, so nobody else hears of it then.
create table rollcall.change_settings (
  relation regclass primary key,
  delete_rls boolean not null default false
);
comment on table rollcall.change_settings is
  'How changes of a table are told. delete_rls: a DELETE only to roles that row-level security does not bind.';
-- No policies: the owner sets it, the server reads it.
alter table rollcall.change_settings enable row level security;

-- Each table for each role: what that role may read of it, what a row is known by, whether row-level security is asked.
-- One row a table and role; a table that is gone has none. `is_known` is false for a role that does not exist.
-- `is_exempt`: row-level security does not apply to that role there. `owner_columns`: if every policy that applies compares
-- a uuid column with auth.uid() for equality, those columns: a row is seen if one of them holds the viewer's id. Null if a
-- policy says anything else, or auth.uid() is not what it should be; then only `select` tells.
-- Invoker: reads catalogues that everybody may read.
create function rollcall.change_access(p_relations oid[], p_roles text[])
  returns table (
    relation oid, role text, is_known boolean, columns text[], key text[], key_types text[], qualified text,
    is_secured boolean, is_exempt boolean, deletes_are_secured boolean, owner_columns text[]
  )
  language sql stable security invoker set search_path = ''
as $$
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
    c.relrowsecurity,
    not c.relrowsecurity
      or coalesce(r.rolsuper or r.rolbypassrls
        or not c.relforcerowsecurity and pg_has_role(r.oid, c.relowner, 'usage'), false),
    coalesce((select s.delete_rls from rollcall.change_settings s where s.relation = c.oid), false),
    owned.columns
  from unnest(p_relations) as wanted (oid)
  join pg_catalog.pg_class c on c.oid = wanted.oid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  cross join unnest(p_roles) as asked (role)
  left join pg_catalog.pg_roles r on r.rolname = asked.role
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
    where p.polrelid = c.oid and p.polcmd in ('r', '*')
      and exists (
        select from unnest(p.polroles) as applies (oid) where applies.oid = 0 or pg_has_role(r.oid, applies.oid, 'member')
      )
  ) owned
$$;
comment on function rollcall.change_access is 'What roles may read of tables whose changes are told.';

-- Waits until these transactions, which the log says are committed, are visible to snapshots too: a backend writes its
-- commit to the log before it leaves the list of running transactions. Ids come without their epoch.
-- Invoker: looks at snapshots only.
create function rollcall.await_commits(p_xids bigint[]) returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_next constant bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  v_xid bigint;
begin
  foreach v_xid in array p_xids loop
    -- The full id is the one within two thousand million of the next.
    v_xid := v_xid + (v_next - v_next % 4294967296);
    v_xid := v_xid - case when v_xid - v_next > 2147483648 then 4294967296 else 0 end;
    v_xid := v_xid + case when v_next - v_xid > 2147483648 then 4294967296 else 0 end;
    while not pg_visible_in_snapshot(v_xid::text::xid8, pg_current_snapshot()) loop
      perform pg_sleep(0.0005);
    end loop;
  end loop;
end
$$;
comment on function rollcall.await_commits is 'Returns once committed transactions are visible.';

-- Refuses what a subscription may not filter by or select, in the words of the original's trigger.
-- Invoker: asks for the privileges of a role, and casts literals.
create function rollcall.check_change_params(
  p_relation oid, p_role text, p_columns text[], p_operators text[], p_values text[], p_select text[]
) returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_role constant oid := p_role::regrole;
  v_readable constant text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(v_role, p_relation, a.attnum, 'select')
  );
  v_type oid;
  v_shown text;
  v_castable text;
begin
  for i in 1 .. coalesce(cardinality(p_columns), 0) loop
    if not p_columns[i] = any (v_readable) then
      raise exception 'invalid column for filter %', p_columns[i];
    end if;
    select t.oid, format_type(t.oid, null), format('%I.%I', n.nspname, t.typname) into v_type, v_shown, v_castable
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      where a.attrelid = p_relation and a.attname = p_columns[i];
    case p_operators[i]
      when 'in' then
        if cardinality(rollcall.canonical_literals(v_type, 'in', p_values[i])) > 100 then
          raise exception 'too many values for `in` filter. Maximum 100';
        end if;
      when 'is' then
        if lower(p_values[i]) not in ('null', 'true', 'false', 'unknown') then
          raise exception 'invalid value for is filter: must be null, true, false, or unknown';
        elsif lower(p_values[i]) <> 'null' and v_type <> 'boolean'::regtype then
          raise exception 'is % filter requires a boolean column, got %', p_values[i], v_shown;
        end if;
      when 'like', 'ilike', 'match', 'imatch' then
        if not exists (
          select from pg_catalog.pg_operator o
          where o.oprname = '~~' and o.oprleft = v_type
        ) and v_type not in ('varchar'::regtype, 'text'::regtype) then
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
        perform rollcall.canonical_literals(v_type, p_operators[i], p_values[i]);
    end case;
  end loop;
  for i in 1 .. coalesce(cardinality(p_select), 0) loop
    if not p_select[i] = any (v_readable) then
      raise exception 'invalid column for select %', p_select[i];
    end if;
  end loop;
end
$$;
comment on function rollcall.check_change_params is 'Raises what is wrong with the filters and columns of a subscription to changes.';

-- A filter's literal as the type's output function writes it, one for each member of a list.
-- Patterns and the words of `is` stay as they are. Invoker: casts, nothing else.
create function rollcall.canonical_literals(p_type oid, p_operator text, p_value text) returns text[]
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_type text;
  v_literals text[];
begin
  if p_operator in ('is', 'like', 'ilike', 'match', 'imatch') then
    return array[p_value];
  end if;
  select format('%I.%I', n.nspname, t.typname) into v_type
    from pg_catalog.pg_type t
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    where t.oid = p_type;
  if p_operator = 'in' then
    execute format('select coalesce(array_agg(case when num_nulls(v) = 0 then format(''%%s'', v) end order by place), ''{}'') '
      'from unnest($1::%s[]) with ordinality as list (v, place)', v_type)
      into v_literals using p_value;
  else
    -- Not a cast to text, which is another text for some types: true instead of t.
    execute format('select array[format(''%%s'', $1::%s)]', v_type) into v_literals using p_value;
  end if;
  return v_literals;
end
$$;
comment on function rollcall.canonical_literals is 'The literals of a filter in the form in which values are compared.';

-- Which of some values a filter holds for, in the order of the values; never null. For what only PostgreSQL can decide.
-- Invoker: compares literals, nothing else.
create function rollcall.filter_holds(p_type oid, p_operator text, p_negated boolean, p_value text, p_values text[])
  returns boolean[]
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_type text;
  v_test text;
  v_holds boolean[];
begin
  select format('%I.%I', n.nspname, t.typname) into v_type
    from pg_catalog.pg_type t
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    where t.oid = p_type;
  v_test := case p_operator
    when 'in' then format('= any ($2::%s[])', v_type)
    when 'like' then '~~ $2'
    when 'ilike' then '~~* $2'
    when 'match' then '~ $2'
    when 'imatch' then '~* $2'
    else format('%s $2::%s', case p_operator
      when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<=' when 'gt' then '>'
      when 'gte' then '>=' when 'isdistinct' then 'is distinct from' end, v_type)
  end;
  execute format(
    'select array_agg(coalesce((v::%s %s) <> $3, false) order by place) '
    'from unnest($1) with ordinality as list (v, place)', v_type, v_test
  ) into v_holds using p_values, p_value, p_negated;
  return v_holds;
end
$$;
comment on function rollcall.filter_holds is 'Which values a filter on changes holds for.';

-- The JSON of values that the server cannot render itself, in their order.
-- Invoker: casts, nothing else.
create function rollcall.render_values(p_type oid, p_values text[]) returns text[]
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_type text;
  v_json text[];
begin
  select format('%I.%I', n.nspname, t.typname) into v_type
    from pg_catalog.pg_type t
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    where t.oid = p_type;
  execute format(
    'select array_agg(to_jsonb(v::%s)::text order by place) from unnest($1) with ordinality as list (v, place)', v_type
  ) into v_json using p_values;
  return v_json;
end
$$;
comment on function rollcall.render_values is 'Values as to_jsonb writes them.';

revoke execute on all functions in schema rollcall from public;
