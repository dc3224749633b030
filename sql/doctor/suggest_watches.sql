-- Tables whose changes make Rollcall ask every connected viewer, because it cannot tell whom a row concerns. Reads catalogs
-- only; changes nothing. Returns reason text (for people) and statement text (SQL): a declaration of rollcall.watch for a
-- table with two columns of type uuid, otherwise null.
with
followed as (
  select t.tgrelid as source, format('%I.%I', n.nspname, c.relname) as qualified, c.relname as name,
    exists (select from pg_inherits i where t.tgrelid in (i.inhrelid, i.inhparent)) as is_partitioned
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
  join pg_namespace n on n.oid = c.relnamespace
  where t.tgname = 'rollcall_watch' and t.tgfoid = 'rollcall_internal.on_watched_table_changed()'::regprocedure
    -- Of inserted rows, and not because a DBA called rollcall.watch_table.
    and t.tgtype & 4 <> 0 and t.tgnargs = 0
),
named as (
  select f.source, string_agg(format('%I.%I', n.nspname, p.proname), ', ' order by n.nspname, p.proname) as functions
  from followed f
  join rollcall_internal.examined_policies e on e.purpose = 'visibility'
  join pg_proc p on p.oid = any (e.objects) and p.prosqlbody is null and position(lower(f.name) in lower(p.prosrc)) > 0
  join pg_namespace n on n.oid = p.pronamespace and n.nspname <> 'pg_catalog' and n.nspname <> all (e.closed_schemas)
  group by f.source
),
users as (
  select a.attrelid as source, array_agg(a.attname::text order by a.attnum) as columns
  from pg_attribute a
  where a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype
    and not exists (
      select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
  group by a.attrelid
)
select
  case when cardinality(u.columns) = 2 then
    format('select rollcall.watch(%L, %L, %L);', f.qualified, u.columns[1], u.columns[2]) end as statement,
  format('%s: each change asks every connected viewer, because %s%s', f.qualified,
    case
      when n.functions is not null then format('the text of %s names it. Rollcall can read functions in SQL that are written '
        'with BEGIN ATOMIC', n.functions)
      when f.is_partitioned then 'it is a partition or has some'
      else 'a policy reads rows of it without comparing a column with auth.uid(), with the user shown, or with an indexed '
        'column of another table that is compared with them' end,
    case when cardinality(u.columns) = 2 then
      format('. If a row concerns only what its %I sees of its %I, declare it', u.columns[1], u.columns[2]) end) as reason
from followed f
left join named n on n.source = f.source
left join users u on u.source = f.source
order by f.qualified
