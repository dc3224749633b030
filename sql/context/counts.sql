-- Bundles and their states, counted: the caller's, or everybody's for the service. Returns one row.
select rollcall.context_counts() as found
