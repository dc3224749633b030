-- Closes one connection. $1 its ID text, $2 reason text, $3 ID of the request uuid, $4 the node uuid that waits.
-- Returns one row: whether the node of the connection lives.
select rollcall.disconnect_connection($1, $2, $3, $4) as is_alive
