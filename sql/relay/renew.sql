-- Renews the lease of the relay and writes a mark. $1 node uuid, $2 lease in seconds float8; $3 the newest mark before
-- which everything was sent, seconds since 1970 float8 or null.
-- Returns one row: whether the node still is the relay.
select rollcall_internal.renew_relay($1, $2 * interval '1 second', to_timestamp($3))
