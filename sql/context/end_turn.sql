-- Ends an answer. $1 uuid, $2 state text (complete, partial, failed), $3 text, $4 tokens int, $5 metadata jsonb.
-- Returns one row: false where it was ended before.
select rollcall_internal.end_answer($1, $2::text::rollcall.message_state, $3, $4, $5)
