-- Schedules an action again, or gives it up after its last attempt.
-- $1 uuid, $2 error text, $3 delay in seconds float8, $4 maximum number of attempts int. Returns one row.
select rollcall_internal.fail_action($1, $2, $3 * interval '1 second', $4)
