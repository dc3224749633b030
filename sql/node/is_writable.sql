-- What a write needs beyond an answer: the server is no standby, and transactions are not read-only.
select pg_is_in_recovery() as in_recovery, current_setting('transaction_read_only')::boolean as read_only
