-- Puts an action back for later, or among the dead letters after its last attempt.
-- $1 bigint, $2 why text, $3 how long to wait, seconds float8, $4 the most attempts int. Returns one row.
select rollcall_internal.fail_action($1, $2, $3 * interval '1 second', $4)
