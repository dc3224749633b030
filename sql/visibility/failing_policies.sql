-- Policies of the schema rollcall that raise an error for a caller. $1 role text, $2 claims text. Returns one row per
-- policy.
select relation, policy, error, message from rollcall_internal.failing_policies($1, $2)
