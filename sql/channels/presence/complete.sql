-- Ends a complete rewrite of a node's rows. $1 node uuid, $2 every channel that tracks something bigint[].
-- Returns one row: whether it is complete; if not, rows or the lease were lost meanwhile.
select rollcall_internal.complete_channel_presence($1, $2)
