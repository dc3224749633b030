-- A number that changes when tables join or leave the publication. Returns one row: state int4.
select hashtext(coalesce(string_agg(format('%I.%I', schemaname, tablename), ',' order by schemaname, tablename), '')) as state
from pg_publication_tables
where pubname = 'supabase_realtime'
