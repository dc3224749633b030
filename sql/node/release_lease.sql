-- Releases the lease of a node. $1 node uuid, $2 grace period in seconds float8: how long its devices may take to reconnect to
-- another node; without another node they go offline at once.
select rollcall_internal.release_lease($1, $2 * interval '1 second')
