-- Takes or renews a node's lease. $1 node uuid, $2 seconds float8.
-- Returns one row: false when there was none, so that the node must say again which sockets it holds.
select rollcall_internal.renew_lease($1, $2 * interval '1 second')
