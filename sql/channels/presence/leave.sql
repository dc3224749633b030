-- Deletes the channel presence of a node that stops. $1 node uuid. Returns one empty row.
select rollcall_internal.leave_channel_presence($1)
