-- A number that changes when the publication, its tables, or their published columns change.
-- Returns one row: state int4.
select hashtext(pg_catalog.concat_ws(';',
  (select pg_catalog.concat(p.oid, p.pubinsert, p.pubupdate, p.pubdelete) from pg_publication p
    where p.pubname = 'supabase_realtime'),
  (
    select pg_catalog.string_agg(pg_catalog.concat_ws(',', c.oid, n.nspname, c.relname, t.rowfilter, columns.types), ';'
      order by c.oid)
    from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname
    join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    cross join lateral (
      select pg_catalog.string_agg(pg_catalog.concat(a.attname, a.atttypid), ',' order by a.attnum) as types
      from pg_attribute a
      where a.attrelid = c.oid and a.attname = any (t.attnames)
    ) columns
    where t.pubname = 'supabase_realtime'
  )
)) as state
