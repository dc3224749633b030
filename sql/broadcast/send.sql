-- Sends an event to every open socket of some users. $1 category text, $2 event text, $3 users uuid[], $4 payload,
-- JSON text. Returns how many of them are connected.
select rollcall.broadcast($1, $2, $3, $4::text::json) as connected
