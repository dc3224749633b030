-- Sends a message to the other nodes. $1 node uuid, $2 payload bytea. Returns one empty row.
select rollcall_internal.post_to_bus($1, $2)
