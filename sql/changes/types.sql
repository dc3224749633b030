-- What types are. $1 oids of types oid[].
-- Returns one row a type: oid oid, name text, qualified text (for casts), kind text, element oid (of an array or domain, else
-- 0), delimiter text, attribute_names text[] and attribute_types oid[] (of a composite),
-- equality_schema text and pattern_schema text (quoted schemas of the type's operators = and ~~).
-- A type with a cast to json of its own, and those whose text is not their JSON, are opaque: only to_jsonb renders them.
select t.oid, t.typname::text as name, pg_catalog.format('%I.%I', n.nspname, t.typname) as qualified,
  case
    when t.oid = any (array['json', 'int2vector', 'oidvector']::regtype[]) then 'opaque'
    when t.oid >= 16384 and exists (
      select from pg_cast where castsource = t.oid and casttarget in ('json'::regtype, 'jsonb'::regtype)
    ) then 'opaque'
    when t.oid = any (array['int2', 'int4', 'int8']::regtype[]) then 'integer'
    when t.oid = any (array['float4', 'float8']::regtype[]) then 'float'
    when t.oid = any (array['text', 'varchar']::regtype[]) then 'text'
    when t.oid = any (array['uuid', 'bytea']::regtype[]) then 'bytes'
    when t.oid = any (array['numeric', 'bool', 'date', 'timestamp', 'timestamptz', 'jsonb']::regtype[]) then t.typname
    when t.typtype = 'd' then 'domain'
    when t.typtype = 'e' then 'enum'
    when t.typtype = 'c' then 'composite'
    when t.typelem <> 0 and t.typlen = -1 and t.typsubscript = 'array_subscript_handler'::regproc then 'array'
    else 'other'
  end as kind,
  case when t.typtype = 'd' then t.typbasetype else t.typelem end as element,
  coalesce(e.typdelim, ',')::text as delimiter,
  c.names as attribute_names,
  c.types as attribute_types,
  rollcall_internal.operator_schema(t.oid, '=') as equality_schema,
  rollcall_internal.operator_schema(t.oid, '~~') as pattern_schema
from pg_type t
join pg_namespace n on n.oid = t.typnamespace
left join pg_type e on e.oid = t.typelem
cross join lateral (
  select coalesce(pg_catalog.array_agg(a.attname::text order by a.attnum), '{}') as names,
    coalesce(pg_catalog.array_agg(a.atttypid order by a.attnum), '{}') as types
  from pg_attribute a
  where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped
) c
where t.oid = any ($1)
