-- Sends a request or an answer to nodes. $1 request uuid, $2 sender uuid, $3 recipient uuid or null for all others,
-- $4 whether it is an answer, $5 body text. Returns one row.
select rollcall_internal.post_to_nodes($1, $2, $3, $4, $5)
