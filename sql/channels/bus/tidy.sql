-- Empties what is old on the bus. Returns one row: whether it did.
select rollcall.tidy_bus()
