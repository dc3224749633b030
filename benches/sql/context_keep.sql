-- Stores compiled bundles. $1 user uuid, $2 jsonb, $3 snapshot text, $4 when it was read. Returns one row per bundle.
select * from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, false)
