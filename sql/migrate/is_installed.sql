-- Whether there is a history of migrations. One row, one boolean. By name, because to_regclass raises an error for a
-- schema that the role may not use.
select exists (
  select from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'rollcall' and c.relname = 'schema_migrations')
