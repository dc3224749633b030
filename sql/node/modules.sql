-- Names of the migrations that were applied; each begins with its module. One row per migration.
select name from rollcall.schema_migrations
