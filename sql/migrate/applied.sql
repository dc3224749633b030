-- Versions and names of the migrations that were applied, in order. One row per migration.
select version, name from rollcall.schema_migrations order by version
