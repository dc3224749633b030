-- Enters a migration into the history. $1 text: version, $2 text: name, $3 text[]: its statements.
insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)
