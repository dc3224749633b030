-- One number for everything in the catalogs that policies depend on, for databases without an event trigger. One row.
select rollcall_internal.policy_fingerprint()
