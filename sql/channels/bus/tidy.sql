-- Truncates the oldest partition of the bus. Returns one row: whether it did.
select rollcall_internal.purge_bus()
