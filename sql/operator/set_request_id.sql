-- Sets the ID of the HTTP request for the audit log, for this transaction. $1 text. Returns one row.
select set_config('rollcall.request_id', $1, true)
