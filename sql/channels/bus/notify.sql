-- Sends a signal to the nodes. $1 text. Returns one empty row.
select rollcall_internal.notify('rollcall_bus', $1)
