-- Published tables that a subscription selects. $1 schema text, $2 table text; `*` selects all.
-- Returns relation oid, schema_name text, table_name text.
select relation, schema_name, table_name from rollcall_internal.published_tables($1, $2)
