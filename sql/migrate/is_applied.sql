-- Whether a migration is in the history. $1 text: its version. One row, one boolean; by primary key.
select exists (select from supabase_migrations.schema_migrations where version = $1)
