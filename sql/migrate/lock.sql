-- Serializes changes of the schema. Held to the end of the transaction; gives up after a minute.
set local lock_timeout = '60s';
select pg_advisory_xact_lock(hashtextextended('rollcall.migrate', 0));
