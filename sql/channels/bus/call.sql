-- A word for the nodes. $1 what, text. Returns one empty row.
select pg_notify('rollcall_bus', $1)
