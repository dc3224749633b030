-- Makes the rest of the transaction run as the caller.
-- $1 role text, $2 claims JSON text, $3 the longest statement in milliseconds, text.
-- Guarantee: local to the transaction, so a pooled connection forgets it at its end, however it ends.
select set_config('role', $1, true), set_config('request.jwt.claims', $2, true), set_config('statement_timeout', $3, true)
