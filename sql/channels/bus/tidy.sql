-- Empties what is old on the bus. Returns one row: whether it did.
select rollcall_internal.purge_bus()
