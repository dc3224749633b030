-- Sends a broadcast. $1 topic, $2 event, $3 payload JSON text, $4 whether the channel is private, $5 reason or null.
-- Returns one row.
select rollcall.publish($1, $2, $3::text::jsonb, $4, $5)
