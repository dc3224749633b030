-- Everything in the catalogs that policies depend on, in one number, for a database without an event trigger. One row.
select rollcall_internal.policy_fingerprint()
