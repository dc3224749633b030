-- Sends notifications that were read from the log, in this order, once the transactions that wrote them are visible.
-- $1 channels text[], $2 payloads text[], $3 IDs of transactions bigint[], without epoch. Returns one row.
select rollcall_internal.send_relayed($1, $2, $3)
