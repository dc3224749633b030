-- Sends a signal to the nodes. $1 text. Returns one empty row.
select rollcall_internal.notify_directly('rollcall_bus', $1)
