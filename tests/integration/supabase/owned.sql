-- Every catalog entry of Supabase's objects, with the transaction that wrote it last, so that any change shows.
-- (The schema `extensions` belongs to the project.) Returns one row with a text.
with owned as (
  select oid from pg_namespace
  where nspname in ('auth', 'storage', 'realtime', 'vault', 'graphql', 'graphql_public', 'pgbouncer')
)
select string_agg(concat_ws(' ', entry.kind, entry.name, entry.xmin), e'\n' order by entry.kind, entry.name, entry.xmin::text) as entries
from (
  select 'schema' as kind, n.nspname::text as name, n.xmin from pg_namespace n where n.oid in (table owned)
  union all select 'relation', c.oid::regclass::text, c.xmin from pg_class c where c.relnamespace in (table owned)
  union all select 'column', a.attrelid::regclass || '.' || a.attname, a.xmin from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relnamespace in (table owned)
  union all select 'function', f.oid::regprocedure::text, f.xmin from pg_proc f where f.pronamespace in (table owned)
  union all select 'type', t.typname, t.xmin from pg_type t where t.typnamespace in (table owned)
  union all select 'policy', p.polname, p.xmin from pg_policy p
    join pg_class c on c.oid = p.polrelid and c.relnamespace in (table owned)
  union all select 'trigger', t.tgname, t.xmin from pg_trigger t
    join pg_class c on c.oid = t.tgrelid and c.relnamespace in (table owned)
  union all select 'constraint', t.conname, t.xmin from pg_constraint t where t.connamespace in (table owned)
  union all select 'role', r.rolname, r.xmin from pg_authid r where r.oid >= 16384
  union all select 'membership', m.roleid::regrole || ' ' || m.member::regrole, m.xmin from pg_auth_members m where m.member >= 16384
) entry
