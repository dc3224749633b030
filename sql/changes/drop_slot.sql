-- Drops a slot that nobody reads from; raises if somebody does again. $1 name text.
select pg_drop_replication_slot($1)
