-- Records the outcome of a delivery. $1 webhook uuid, $2 lease bigint, $3 outcome text, $4 status int, $5 error text,
-- $6 delay in seconds float8, $7 attempts int. Returns whether the lease still counted.
select rollcall_internal.finish_webhook($1, $2, $3, $4, $5, make_interval(secs => $6), $7)
