-- Whether a policy on user_presence looks at the state of a row, so that each change must be asked again.
-- Returns one row.
select rollcall_internal.policies_read_state()
