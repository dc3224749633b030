-- What some callers may do in private channels, evaluated by the policies (rollcall_internal.probe_channels).
-- $1 topics text[], $2 index of the topic int[] (from 1), $3 role text[], $4 sub text[], $5 claims text[], $6 headers text[],
-- $7 whether to check reading bool[], $8 writing bool[].
-- Returns one row per caller: caller int (from 1), four bools (null where not checked), error text (a SQLSTATE or null),
-- message text (null unless a policy raised the error).
-- Must be sent in a transaction that is rolled back.
select caller, broadcast_read, presence_read, broadcast_write, presence_write, error, message
from rollcall_internal.probe_channels($1, $2, $3, $4, $5, $6, $7, $8)
