-- A node takes its leave from channels. $1 node uuid. Returns one empty row.
select rollcall_internal.leave_channel_presence($1)
