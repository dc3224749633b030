-- Begins to relay, once the stream has started. $1 node uuid, $2 lease in seconds float8.
-- Returns one row: whether the node still has its claim.
select rollcall_internal.start_relay($1, $2 * interval '1 second')
