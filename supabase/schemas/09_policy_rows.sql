-- Module: channels
-- Which users and topics a row concerns, found in the parsed form of policies, views and functions. After a change of a
-- table that they read only in ways understood here, Rollcall evaluates policies again only for these, otherwise for
-- all.

-- The text form of a parsed expression (pg_node_tree) as JSON. A node is an object whose member `node` holds its type;
-- its other members are its fields. A field, and a list, is an array whose first item is 0, so that the values start at
-- index 1. An atom is a string. Null if the text cannot be read.
-- Invoker: computes from its argument.
create function rollcall_internal.node_tree(p_tree text) returns jsonb
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  -- Each field has a value. A name in the tree that begins with a colon would look like a field.
  if p_tree ~ ':\S+\s+[:})]' then
    return null;
  end if;
  return (
    select '[0' || string_agg(case
        when token.text = '{' then ',{"node":[0'
        when token.text = '}' then ']}'
        when token.text = '(' then ',[0'
        when token.text = ')' then ']'
        when left(token.text, 1) = ':' then '],' || to_json(substr(token.text, 2)) || ':[0'
        else ',' || to_json(token.text) end, '' order by token.place) || ']'
    from (
      select found.match[1] as text, found.place
      from regexp_matches(p_tree, '[(){}]|(?:\\.|[^\s(){}\\])+', 'g') with ordinality as found (match, place)
    ) token
  )::jsonb -> 1;
exception when invalid_text_representation then
  return null;
end
$$;
comment on function rollcall_internal.node_tree is 'A parsed expression as JSON; null if it cannot be read.';

-- Names the value of an expression: `viewer`, `topic`, or `<level>:<table>.<column>` with the numbers of the range
-- table entry and of the column. Level 0 is the row that a policy judges, level 1 the outermost query. Null for any
-- other expression. A UUID and its text have one name.
-- Invoker: computes from its arguments.
create function rollcall_internal.expression_key(p_node jsonb, p_level int) returns text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_query constant jsonb := p_node -> 'subselect' -> 1;
begin
  case p_node -> 'node' ->> 1
    when 'VAR' then
      if (p_node -> 'varattno' ->> 1)::int > 0 then
        return format('%s:%s.%s', p_level - (p_node -> 'varlevelsup' ->> 1)::int, p_node -> 'varno' ->> 1,
          p_node -> 'varattno' ->> 1);
      end if;
    when 'FUNCEXPR' then
      if (p_node -> 'funcid' ->> 1)::oid = to_regprocedure('auth.uid()') then
        return 'viewer';
      elsif (p_node -> 'funcid' ->> 1)::oid = to_regprocedure('realtime.topic()') then
        return 'topic';
      end if;
    when 'OPEXPR' then
      -- auth.jwt() ->> 'sub'. The constant has four bytes of length before its text.
      if (p_node -> 'opno' ->> 1)::oid = '->>(jsonb,text)'::regoperator
        and (p_node -> 'args' -> 1 -> 1 -> 'funcid' ->> 1)::oid = to_regprocedure('auth.jwt()')
        and p_node -> 'args' -> 1 -> 2 -> 'constvalue' @> '["7", "115", "117", "98"]'
        and p_node -> 'args' -> 1 -> 2 -> 'constvalue' ->> 7 = '115'
      then
        return 'viewer';
      end if;
    when 'RELABELTYPE' then
      return rollcall_internal.expression_key(p_node -> 'arg' -> 1, p_level);
    -- A cast. That of a column to UUID is left out, because it can raise for a row that concerns nobody.
    when 'COERCEVIAIO' then
      if p_node -> 'resulttype' ->> 1 in ('25', '2950') and (
        p_node -> 'arg' -> 1 -> 'node' ->> 1 not in ('VAR', 'RELABELTYPE')
        or p_node -> 'arg' -> 1 -> 'vartype' ->> 1 = '2950')
      then
        return rollcall_internal.expression_key(p_node -> 'arg' -> 1, p_level);
      end if;
    -- A subquery without tables, such as (select auth.uid()).
    when 'SUBLINK' then
      if p_node -> 'subLinkType' ->> 1 = '4' and v_query -> 'rtable' ->> 1 = '<>'
        and v_query -> 'jointree' -> 1 -> 'quals' ->> 1 = '<>'
      then
        return rollcall_internal.expression_key(v_query -> 'targetList' -> 1 -> 1 -> 'expr' -> 1, p_level + 1);
      end if;
    else
  end case;
  return null;
end
$$;
comment on function rollcall_internal.expression_key is 'Names the value of a parsed expression, for comparisons.';

-- Whether an operator node compares UUIDs, integers, or texts byte by byte.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.is_equality(p_node jsonb) returns boolean
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select (p_node -> 'opno' ->> 1)::oid in (
      select o.oid from pg_catalog.pg_operator o
      where o.oprname = '=' and o.oprnamespace = 'pg_catalog'::regnamespace and (
        o.oprleft = o.oprright and o.oprleft in ('uuid'::regtype, 'text'::regtype)
        or o.oprleft in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
          and o.oprright in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)))
    and not exists (
      select from pg_catalog.pg_collation c
      where c.oid = (p_node -> 'inputcollid' ->> 1)::oid and not c.collisdeterministic)
$$;
comment on function rollcall_internal.is_equality is
  'Whether a parsed operator is the equality of UUIDs, integers or texts.';

-- Equalities that hold wherever a condition does: of UUIDs, integers or texts, in the condition or joined to it by AND.
-- Each is two keys with a space between them.
-- Invoker: computes from its arguments.
create function rollcall_internal.equalities(p_condition jsonb, p_level int) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_left text;
  v_right text;
begin
  if p_condition -> 'node' ->> 1 = 'BOOLEXPR' and p_condition -> 'boolop' ->> 1 = 'and' then
    return array(
      select equality
      from jsonb_array_elements(p_condition -> 'args' -> 1) as arg (node)
      cross join lateral unnest(rollcall_internal.equalities(arg.node, p_level)) as equality);
  end if;
  if p_condition -> 'node' ->> 1 = 'OPEXPR' and rollcall_internal.is_equality(p_condition) then
    v_left := rollcall_internal.expression_key(p_condition -> 'args' -> 1 -> 1, p_level);
    v_right := rollcall_internal.expression_key(p_condition -> 'args' -> 1 -> 2, p_level);
    if v_left is not null and v_right is not null then
      return array[v_left || ' ' || v_right];
    end if;
  end if;
  return '{}';
end
$$;
comment on function rollcall_internal.equalities is 'Equalities that hold wherever a parsed condition does.';

-- The same for the joins of a query. Rows on the optional side of an outer join are rows without the condition.
-- Invoker: computes from its arguments.
create function rollcall_internal.join_equalities(p_join jsonb, p_level int) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := p_join -> 'jointype' ->> 1;
begin
  if p_join -> 'node' ->> 1 is distinct from 'JOINEXPR' then
    return '{}';
  end if;
  -- 0 inner, 1 left, 3 right.
  return case when v_type = '0' then rollcall_internal.equalities(p_join -> 'quals' -> 1, p_level) else '{}' end
    || case when v_type in ('0', '1') then rollcall_internal.join_equalities(p_join -> 'larg' -> 1, p_level)
      else '{}' end
    || case when v_type in ('0', '3') then rollcall_internal.join_equalities(p_join -> 'rarg' -> 1, p_level)
      else '{}' end;
end
$$;
comment on function rollcall_internal.join_equalities is 'Equalities that hold in all rows of a parsed join.';

-- Invoker: computes from its argument.
create function rollcall_internal.combines_rows(p_query jsonb) returns boolean
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select 'true' in (p_query -> 'hasAggs' ->> 1, p_query -> 'hasWindowFuncs' ->> 1, p_query -> 'hasTargetSRFs' ->> 1,
      p_query -> 'hasDistinctOn' ->> 1)
    or exists (
      select
      from unnest(array['groupClause', 'groupingSets', 'havingQual', 'limitOffset', 'limitCount', 'setOperations'])
        as field (name)
      where p_query -> field.name ->> 1 is distinct from '<>')
$$;
comment on function rollcall_internal.combines_rows is
  'Whether the result of a parsed query may have rows or values that its conditions do not hold for.';

-- The equality that `value in (subquery)` adds to the conditions of the subquery. Only where the expression is a
-- condition: there it does not matter whether it is null or false. Nothing if the subquery combines rows, because then
-- a row counts without being equal.
-- Invoker: computes from its arguments.
create function rollcall_internal.membership(p_operator jsonb, p_query jsonb, p_level int) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_value constant text := rollcall_internal.expression_key(p_operator -> 'args' -> 1 -> 1, p_level);
  v_member constant text := rollcall_internal.expression_key(
    p_query -> 'targetList' -> 1 -> 1 -> 'expr' -> 1, p_level + 1);
begin
  if v_value is null or v_member is null or not rollcall_internal.is_equality(p_operator)
    or rollcall_internal.combines_rows(p_query)
  then
    return '{}';
  end if;
  return array[v_value || ' ' || v_member];
end
$$;
comment on function rollcall_internal.membership is 'The equality that membership in a parsed subquery adds to it.';

-- Invoker: computes from its arguments.
create function rollcall_internal.equal_keys(p_key text, p_equalities text[]) returns text[]
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  with recursive
  pair as (
    select split_part(e.equality, ' ', 1) as one, split_part(e.equality, ' ', 2) as other
    from unnest(p_equalities) e (equality)
  ),
  reached (key) as (
    select p_key
    union
    select case when p.one = r.key then p.other else p.one end
    from reached r join pair p on r.key in (p.one, p.other)
  )
  select array_agg(r.key) from reached r
$$;
comment on function rollcall_internal.equal_keys is 'All keys that are equal to one, directly or indirectly.';

-- Invoker: computes from its arguments.
create function rollcall_internal.column_equal_to(p_key text, p_place text, p_equalities text[]) returns int
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select min(split_part(k.key, '.', 2)::int)
  from unnest(rollcall_internal.equal_keys(p_key, p_equalities)) k (key)
  where split_part(k.key, '.', 1) = p_place
$$;
comment on function rollcall_internal.column_equal_to is
  'The number of the first column of a table of a query that is equal to a key.';

-- Invoker: computes from its arguments.
create function rollcall_internal.query_equalities(p_query jsonb, p_level int) returns text[]
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.equalities(p_query -> 'jointree' -> 1 -> 'quals' -> 1, p_level) || array(
    select equality
    from jsonb_path_query(p_query, '$.jointree[1].fromlist[1][*]') as item (node)
    cross join lateral unnest(rollcall_internal.join_equalities(item.node, p_level)) as equality)
$$;
comment on function rollcall_internal.query_equalities is 'Equalities that hold in all rows of a parsed query.';

-- Invoker: computes from its arguments.
create function rollcall_internal.query_tables(p_query jsonb, p_level int) returns text[]
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(format('%s:%s %s', p_level, entry.place - 1, entry.node -> 'relid' ->> 1)), '{}')
  from jsonb_path_query(p_query, '$.rtable[1][*]') with ordinality as entry (node, place)
  where entry.node -> 'rtekind' ->> 1 = '0'
$$;
comment on function rollcall_internal.query_tables is
  'The tables of a parsed query: `<level>:<table>` as in expression_key, and the OID.';

-- The queries of `exists` and `in` that a condition is joined to by AND: where it holds, so do theirs for some row.
-- Invoker: computes from its arguments.
create function rollcall_internal.required_queries(p_condition jsonb, p_level int)
  returns table (tables text[], equalities text[])
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.query_tables(c.node -> 'subselect' -> 1, p_level + 1),
    rollcall_internal.query_equalities(c.node -> 'subselect' -> 1, p_level + 1)
      || case when c.node -> 'subLinkType' ->> 1 = '2' then rollcall_internal.membership(
        c.node -> 'testexpr' -> 1, c.node -> 'subselect' -> 1, p_level) else '{}' end
  from (
    select p_condition
    union all
    select jsonb_path_query(p_condition, '$ ? (@.node[1] == "BOOLEXPR" && @.boolop[1] == "and").args[1][*]')
  ) as c (node)
  where c.node -> 'node' ->> 1 = 'SUBLINK' and c.node -> 'subLinkType' ->> 1 in ('0', '2')
    and not rollcall_internal.combines_rows(c.node -> 'subselect' -> 1)
$$;
comment on function rollcall_internal.required_queries is
  'Tables and equalities of the subqueries that have a row wherever a parsed condition holds.';

-- How another table of a query names the users whom a row concerns, as `[column, null, join]` of concerned_columns. By
-- name, because it is stored in the arguments of triggers, which dumps contain. The other table is a followed one: a
-- row that named other users before was a change of its own. Null without such a table, or without an index of it for
-- the look-up.
-- Definer: reads catalogs only.
create function rollcall_internal.naming_join(p_place text, p_tables text[], p_equalities text[], p_subject text)
  returns jsonb
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with
  place as (
    select split_part(t.entry, ' ', 1) as name, split_part(t.entry, ' ', 2)::oid as source
    from unnest(p_tables) as t (entry)
  ),
  own as (
    select distinct side.key
    from unnest(p_equalities) as e (equality)
    cross join lateral unnest(string_to_array(e.equality, ' ')) as side (key)
    where split_part(side.key, '.', 1) = p_place
  )
  select jsonb_build_array(key_of.attname, null, jsonb_build_array(
    format('%I.%I', n.nspname, c.relname), key.attname, viewer.attname, subject.attname)::text)
  from own o
  cross join lateral unnest(rollcall_internal.equal_keys(o.key, p_equalities)) as same (key)
  join place mine on mine.name = p_place
  join place other on other.name = split_part(same.key, '.', 1) and other.name <> p_place
  join pg_catalog.pg_class c on c.oid = other.source and c.relkind in ('r', 'p')
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    and n.nspname not in ('rollcall', 'rollcall_internal', 'realtime')
  left join pg_catalog.pg_attribute viewer on viewer.attrelid = other.source
    and viewer.attnum = rollcall_internal.column_equal_to('viewer', other.name, p_equalities)
  left join pg_catalog.pg_attribute subject on subject.attrelid = other.source
    and subject.attnum = rollcall_internal.column_equal_to(p_subject, other.name, p_equalities)
  join pg_catalog.pg_attribute key on key.attrelid = other.source
    and key.attnum = split_part(same.key, '.', 2)::int
  join pg_catalog.pg_attribute key_of on key_of.attrelid = mine.source
    and key_of.attnum = split_part(o.key, '.', 2)::int
  where (viewer.attnum is not null or subject.attnum is not null)
    and (key.atttypid = key_of.atttypid and key.atttypid in ('uuid'::regtype, 'text'::regtype)
      or key.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
        and key_of.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype))
    and exists (
      select from pg_catalog.pg_index i
      where i.indrelid = other.source and i.indkey[0] = key.attnum and i.indisvalid and i.indpred is null)
    and has_table_privilege(other.source, 'select') and not row_security_active(other.source)
    and not exists (select from pg_catalog.pg_inherits i where i.inhparent = other.source and c.relkind = 'r')
  order by viewer.attnum is null, subject.attnum is null, key_of.attnum, other.source, key.attnum
  limit 1
$$;
comment on function rollcall_internal.naming_join is
  'The columns of another table of a parsed query that name the users whom a row concerns.';

-- The tables that a parsed expression reads, one row per mention, with the column that equals the viewer and the one
-- that equals p_subject (null where no condition says so). A row of the table with another value in that column cannot
-- change the result of the expression for this viewer or subject. Without both columns, naming_join as `via`.
--   p_tables      the tables of the queries around the node
--   p_equalities  what holds wherever the node is evaluated to an effect
--   p_is_condition  whether the node decides alone, so that null and false have the same effect
-- Invoker: computes from its arguments.
-- Over 60 lines: one case per kind of node.
create function rollcall_internal.tables_read(
  p_node jsonb, p_level int, p_tables text[], p_equalities text[], p_is_condition boolean, p_subject text
) returns table (source oid, viewer_column int, subject_column int, via jsonb)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := p_node -> 'node' ->> 1;
  v_join constant jsonb := p_node -> 'jointree' -> 1;
  v_level int := p_level;
  v_tables text[] := p_tables;
  v_equalities text[] := p_equalities;
  v_own_tables text[];
  v_table text;
  v_place text;
  -- Fields that are evaluated by the case itself.
  v_done text[] := '{}';
begin
  if v_type = 'QUERY' then
    v_level := p_level + 1;
    v_own_tables := rollcall_internal.query_tables(p_node, v_level);
    v_tables := v_tables || v_own_tables;
    v_equalities := v_equalities || rollcall_internal.query_equalities(p_node, v_level);
    foreach v_table in array v_own_tables loop
      v_place := split_part(v_table, ' ', 1);
      source := split_part(v_table, ' ', 2);
      viewer_column := rollcall_internal.column_equal_to('viewer', v_place, v_equalities);
      subject_column := rollcall_internal.column_equal_to(p_subject, v_place, v_equalities);
      via := case when viewer_column is null and subject_column is null then coalesce(
        rollcall_internal.naming_join(v_place, v_tables, v_equalities, p_subject), (
          select j.sides
          from rollcall_internal.required_queries(v_join -> 'quals' -> 1, v_level) q
          cross join lateral rollcall_internal.naming_join(
            v_place, v_tables || q.tables, v_equalities || q.equalities, p_subject) as j (sides)
          where j.sides is not null
          limit 1)) end;
      return next;
    end loop;
    v_done := array['jointree'];
    return query select * from rollcall_internal.tables_read(
      v_join -> 'quals' -> 1, v_level, v_tables, v_equalities, true, p_subject);
    return query select * from rollcall_internal.tables_read(
      v_join -> 'fromlist' -> 1, v_level, v_tables, v_equalities, false, p_subject);

  elsif p_is_condition and v_type = 'BOOLEXPR' and p_node -> 'boolop' ->> 1 in ('and', 'or') then
    v_done := array['args'];
    return query
      select inner_read.*
      from jsonb_array_elements(p_node -> 'args' -> 1) as arg (node)
      cross join lateral rollcall_internal.tables_read(arg.node, v_level, v_tables,
        v_equalities || rollcall_internal.equalities(p_node, v_level), true, p_subject) inner_read;

  -- value = any (subquery)
  elsif p_is_condition and v_type = 'SUBLINK' and p_node -> 'subLinkType' ->> 1 = '2' then
    v_done := array['subselect'];
    return query select * from rollcall_internal.tables_read(p_node -> 'subselect' -> 1, v_level,
      v_tables, v_equalities || rollcall_internal.membership(
        p_node -> 'testexpr' -> 1, p_node -> 'subselect' -> 1, v_level), false, p_subject);

  -- value = any (array(subquery))
  elsif p_is_condition and v_type = 'SCALARARRAYOPEXPR' and p_node -> 'useOr' ->> 1 = 'true'
    and p_node -> 'args' -> 1 -> 2 -> 'subLinkType' ->> 1 = '6'
  then
    v_done := array['args'];
    return query select * from rollcall_internal.tables_read(
      p_node -> 'args' -> 1 -> 1, v_level, v_tables, v_equalities, false, p_subject);
    return query select * from rollcall_internal.tables_read(p_node -> 'args' -> 1 -> 2 -> 'subselect' -> 1, v_level,
      v_tables, v_equalities || rollcall_internal.membership(
        p_node, p_node -> 'args' -> 1 -> 2 -> 'subselect' -> 1, v_level), false, p_subject);
  end if;

  return query
    select inner_read.*
    from (
      select field.value from jsonb_each(case jsonb_typeof(p_node) when 'object' then p_node else '{}' end) field
      where field.key <> all (v_done)
      union all
      select item.value from jsonb_array_elements(case jsonb_typeof(p_node) when 'array' then p_node else '[]' end) item
    ) part
    cross join lateral rollcall_internal.tables_read(
      part.value, v_level, v_tables, v_equalities, false, p_subject) inner_read
    where jsonb_typeof(part.value) in ('object', 'array');
end
$$;
comment on function rollcall_internal.tables_read is
  'Tables in a parsed expression, with the columns that name the viewer and the subject that a row concerns.';

-- Whom rows of another table name, for each value that a column of it has. p_join is a JSON array of the table and
-- its columns for the value, the viewers and the subjects; nulls in it stand for all. The snapshot is the one in which
-- the caller reads the log: a row that is gone by then was a change of its own. Nulls in the result are all users:
-- for a value of more than 1,000 rows, and for all values if there are more than 10,000 rows or the table cannot be
-- read. A lock on the table must not delay other changes.
-- Stable, so that it reads in the snapshot of the calling statement.
-- Definer: reads tables of the application; for the server only.
create function rollcall_internal.users_joined(p_join text, p_values text[])
  returns table (viewers uuid[], subjects uuid[])
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  set row_security = off set lock_timeout = '100ms'
as $$
declare
  v_join constant jsonb := p_join;
begin
  return query execute format(
    'select distinct case when %6$L and f.is_bounded then coalesce(f.viewers, ''{}'') end,
       case when %7$L and f.is_bounded then coalesce(f.subjects, ''{}'') end
     from (
       select count(*) <= 1000 and sum(count(*)) over () <= 10000 as is_bounded,
         array_agg(distinct r.viewer) filter (where r.viewer is not null) as viewers,
         array_agg(distinct r.subject) filter (where r.subject is not null) as subjects
       from (
         select m.%1$I as value, rollcall_internal.text_as_uuid(%2$s) as viewer,
           rollcall_internal.text_as_uuid(%3$s) as subject
         from %4$s m where m.%1$I = any (%5$L) limit 10001
       ) r
       group by r.value
     ) f',
    v_join ->> 1, coalesce('m.' || quote_ident(v_join ->> 2) || '::text', 'null'),
    coalesce('m.' || quote_ident(v_join ->> 3) || '::text', 'null'), v_join ->> 0, p_values,
    v_join ->> 2 is not null, v_join ->> 3 is not null);
exception when others then
  raise warning 'Rollcall cannot read whom rows of % name: %', v_join ->> 0, sqlerrm
    using hint = 'Rollcall asks all viewers. The table is locked, or it or its rights were changed.';
  return query select null::uuid[], null::uuid[];
end
$$;
comment on function rollcall_internal.users_joined is
  'Viewers and subjects that rows of another table name for each value; null stands for all.';

-- Invoker: computes from its argument.
create function rollcall_internal.widest_pairs(p_pairs jsonb) returns jsonb
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(distinct pair.sides order by pair.sides)
  from jsonb_array_elements(p_pairs) as pair (sides)
  where not exists (
    select from jsonb_array_elements(p_pairs) as wider (sides)
    where wider.sides <> pair.sides
      and jsonb_array_length(wider.sides) = 2 and jsonb_array_length(pair.sides) = 2
      and (wider.sides -> 0 = 'null' or wider.sides -> 0 = pair.sides -> 0)
      and (wider.sides -> 1 = 'null' or wider.sides -> 1 = pair.sides -> 1))
$$;
comment on function rollcall_internal.widest_pairs is
  'Each pair of columns once, without those whose rows another pair includes.';

-- Pairs of the columns of viewer and subject, as JSON, null where a row concerns all of them. The subject is a user, or
-- for the purpose `authorization` a topic. A row concerns the viewers and subjects of each pair. For visibility also
-- `[column, null, join]`: the users whom the join (see users_joined) finds for the value of the column. Null if a row
-- may concern all. p_columns is the result of columns_in_policies.
-- Definer: reads catalogs only.
create function rollcall_internal.concerned_columns(p_purpose text, p_table regclass, p_columns text[]) returns jsonb
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_examined constant rollcall_internal.examined_policies := (
    select e from rollcall_internal.examined_policies e where e.purpose = p_purpose);
  v_column constant text := case p_purpose when 'authorization' then 'topic' else 'user_id' end;
  v_subject constant text := case p_purpose when 'authorization' then 'topic' else 'subject' end;
  v_reader record;
  v_tree jsonb;
  v_pairs jsonb := '[]';
  v_new jsonb;
begin
  if p_columns is null then
    return null;
  end if;
  for v_reader in
    select expression.tree, case when p.polrelid = any (v_examined.tables::regclass[]) then array(
        select format('%s 0:1.%s', v_subject, a.attnum) from pg_catalog.pg_attribute a
        where a.attrelid = p.polrelid and a.attname = v_column) else '{}' end as equalities
    from pg_catalog.pg_policy p
    cross join lateral (values (p.polqual::text), (p.polwithcheck::text)) expression (tree)
    where p.polrelid = any (v_examined.objects)
    union all
    select r.ev_action::text, '{}'
    from pg_catalog.pg_rewrite r where r.ev_class = any (v_examined.objects)
    union all
    select f.prosqlbody::text, '{}'
    from pg_catalog.pg_proc f where f.oid = any (v_examined.objects) and f.prosqlbody is not null
  loop
    continue when v_reader.tree is null or position(format(':relid %s ', p_table::oid) in v_reader.tree) = 0;
    v_tree := rollcall_internal.node_tree(v_reader.tree);
    if v_tree is null then
      return null;
    end if;
    select jsonb_agg(distinct coalesce(case p_purpose when 'visibility' then t.via end,
        jsonb_build_array(viewer.attname, subject.attname))) into v_new
    from rollcall_internal.tables_read(v_tree, 0, '{}', v_reader.equalities, true, v_subject) t
    left join pg_catalog.pg_attribute viewer on viewer.attrelid = p_table and viewer.attnum = t.viewer_column
    left join pg_catalog.pg_attribute subject on subject.attrelid = p_table and subject.attnum = t.subject_column
    where t.source = p_table;
    v_pairs := v_pairs || coalesce(v_new, '[]');
  end loop;
  if exists (select from jsonb_array_elements(v_pairs) as pair (sides) where pair.sides = '[null, null]') then
    return null;
  end if;
  v_pairs := rollcall_internal.widest_pairs(v_pairs);
  -- More than a few pairs cost more than they save. Triggers read virtual generated columns as null.
  return case when jsonb_array_length(v_pairs) <= 4 and not rollcall_internal.has_virtual_column(p_table, array(
    select side.name from jsonb_array_elements(v_pairs) as pair (sides)
    cross join lateral (values (pair.sides ->> 0), (pair.sides ->> 1)) as side (name)))
  then v_pairs end;
end
$$;
comment on function rollcall_internal.concerned_columns is
  'Columns that name the viewers and subjects that a row concerns; null if it may concern all.';
