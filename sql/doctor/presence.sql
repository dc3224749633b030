-- What is wrong with the objects of the module presence, one row a check, in the order to mend things.
-- Returns name text, ok bool, finding text (for people), remedy text (SQL, or null where none is needed or none helps).
-- Only for a database with that module. Reads catalogs only; asks as the role that the server uses.
with
-- One row a thing that is wrong.
wrong (check_name, what, remedy) as (
  select 'browsers_write_no_faces', 'user_presence by ' || role,
    format('revoke insert, update, delete, truncate on rollcall.user_presence from %I;', role)
  from unnest(array['anon', 'authenticated']) role
  where has_any_column_privilege(role, 'rollcall.user_presence', 'insert, update')
    or has_table_privilege(role, 'rollcall.user_presence', 'delete, truncate')
  union all
  select 'sources_watched', s::text, format('select rollcall.watch_table(%L);', s)
  from rollcall.visibility_sources() s
  where not exists (select from pg_trigger t
    where t.tgrelid = s and t.tgname in ('rollcall_watch', 'invalidate_after_insert', 'notify_after_insert') and t.tgenabled in ('O', 'A'))
  union all
  select 'own_tables', format('%s of %s', o.relation, o.source),
    format('select rollcall.use_built_in(%L);', o.relation)
  from rollcall_internal.own_tables o
  where o.shape is distinct from rollcall_internal.own_table_shape(o.source, array[o.user_column, o.other_column, o.group_column])
    or (select count(*) from pg_trigger t where t.tgrelid = o.source and t.tgenabled in ('O', 'A')
      and t.tgname like 'rollcall\_follow\_' || o.relation || '\_%') < 4
  union all
  select 'presence_published', 'user_presence', 'alter publication supabase_realtime add table rollcall.user_presence;'
  from pg_publication p
  where p.pubname = 'supabase_realtime' and not p.puballtables
    and not exists (select from pg_publication_tables t
      where t.pubname = p.pubname and t.schemaname = 'rollcall' and t.tablename = 'user_presence')
),
-- What is looked at, and how it is said when all is well and when not.
checks (place, name, well, unwell) as (
  values
    (7, 'browsers_write_no_faces', 'faces are written by the database itself', 'faces can be written'),
    (13, 'sources_watched', 'sockets follow every table that a policy mentions', 'sockets do not follow'),
    (14, 'own_tables', 'every declared table can be read and is followed', 'altered or not followed (declare the table again with rollcall.use_table)'),
    (15, 'presence_published', 'user_presence is in the publication supabase_realtime', 'not in the publication supabase_realtime')
)
select c.name, count(w.check_name) = 0 as ok,
  case when count(w.check_name) = 0 then c.well else c.unwell || ': ' || string_agg(w.what, ', ' order by w.what) end as finding,
  string_agg(w.remedy, ' ' order by w.what) as remedy
from checks c
left join wrong w on w.check_name = c.name
group by c.place, c.name, c.well, c.unwell
order by c.place
