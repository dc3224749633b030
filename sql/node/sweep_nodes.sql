-- Deletes nodes whose lease has expired, in a database without the module presence. Returns no rows.
delete from rollcall_internal.nodes where lease_expires_at < clock_timestamp()
