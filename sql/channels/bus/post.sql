-- Sends a batch of messages to the other nodes. $1 node uuid, $2 number of the batch bigint, $3 payload bytea. Returns one
-- empty row.
select rollcall_internal.post_to_bus($1, $2, $3)
