-- Whether a policy on user_presence reads the state of a row, so that each change must be queried again. Returns one row.
select rollcall_internal.policies_read_state()
