-- The slots of a family in this database. $1 names text[].
-- Returns one row a slot that exists: name text, is_active bool, kept bytes of log that are kept for it int8.
select slot_name::text as name, active as is_active,
  coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint as kept
from pg_replication_slots
where slot_name::text = any ($1) and database = current_database()
