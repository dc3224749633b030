-- Drops a replication slot; fails if a client reads from it. $1 name text.
select pg_drop_replication_slot($1)
