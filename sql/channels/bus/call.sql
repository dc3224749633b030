-- Sends a control message to the nodes. $1 text. Returns one empty row.
select pg_notify('rollcall_bus', $1)
