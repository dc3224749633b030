-- Versions of the migrations that were applied, in order. One row per migration.
select version from rollcall.schema_migrations order by version
