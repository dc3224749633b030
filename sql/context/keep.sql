-- Stores compiled bundles. $1 user uuid, $2 jsonb (see rollcall_internal.store_bundles), $3 snapshot text, $4 when the
-- sources were read, $5 whether to notify the user's sockets, $6 access version bigint that the sources were read under.
-- Returns one row per bundle that was stored.
select id, bundle_type::text, version, dirty from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, $5, $6)
