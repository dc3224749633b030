-- The id of the last batch of the bus. Returns one row.
select s.last_value as id from rollcall_internal.bus_id s
