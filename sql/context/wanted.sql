-- The caller's bundles for some subjects, and the snapshot that they were read in.
-- $1 jsonb [{"type", "ref"}], $2 whether to treat all as stale. Returns one row.
select pg_catalog.jsonb_build_object('bundles', rollcall.wanted_bundles($1, $2), 'seeing', pg_current_snapshot()::text,
  'access', rollcall.confirmed_access_version(rollcall.context_access_version()), 'read_at', clock_timestamp()) as found
