-- Saves a question once and opens its answer, as the caller.
-- $1 conversation uuid, $2 text, $3 tokens int, $4 idempotency key text or null. Returns one row.
select rollcall.begin_turn($1, $2, $3, $4) as found
