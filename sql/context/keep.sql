-- Stores compiled bundles. $1 user uuid, $2 jsonb (see rollcall_internal.store_bundles), $3 snapshot text, $4 when it was read,
-- $5 whether the user's sockets are to hear of it. Returns one row a bundle that was not overtaken.
select id, bundle_type::text, version, dirty from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, $5)
