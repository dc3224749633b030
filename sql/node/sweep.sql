-- Ends expired presence. $1 idle after, seconds float8; $2 silent after, seconds float8.
-- Returns one row: how many nodes, devices, idle devices, custom statuses and typing rows it ended.
select nodes, devices, idle, custom_statuses, typing
from rollcall.sweep($1 * interval '1 second', $2 * interval '1 second')
