-- Sends notifications that were read from the log, in this order. $1 channels text[], $2 payloads text[]. Returns one row.
select rollcall_internal.send_relayed($1, $2)
