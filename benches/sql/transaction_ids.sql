-- The transaction IDs assigned so far in the cluster: one for each transaction that writes or notifies.
select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8
