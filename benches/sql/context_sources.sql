-- The sources of bundles and the snapshot in which they were read. $1 as in context_subjects. Returns one row.
select rollcall.wanted_bundles($1, true), pg_current_snapshot()::text, clock_timestamp()
