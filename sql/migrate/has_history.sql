-- Whether there is a history table. One row, one boolean.
select to_regclass('supabase_migrations.schema_migrations') is not null
