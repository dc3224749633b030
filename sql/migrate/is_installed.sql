-- Whether there is a history of migrations. One row, one boolean.
select to_regclass('rollcall.schema_migrations') is not null
