-- Counts of bundles and their states: of the caller, or of all users for service_role. Returns one row.
select rollcall.context_counts() as found
