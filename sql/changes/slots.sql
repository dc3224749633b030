-- Replication slots of this database by name. $1 names text[].
-- Returns one row per existing slot: name text, is_active bool, kept int8 (bytes of WAL that it retains).
select slot_name::text as name, active as is_active,
  coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint as kept
from pg_replication_slots
where slot_name::text = any ($1) and database = current_database()
