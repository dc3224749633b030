-- Raises an error for a subscription to a table that is not possible.
-- $1 relation oid, $2 role text, $3 columns text[], $4 operators text[], $5 values text[], $6 select text[].
select rollcall_internal.check_change_params($1, $2, $3, $4, $5, $6)
