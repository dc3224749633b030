-- Takes or renews the lease of a node. $1 node uuid, $2 seconds float8.
-- Returns one row: false when there was none, so that the node must report its sockets again.
select rollcall_internal.renew_lease($1, $2 * interval '1 second')
