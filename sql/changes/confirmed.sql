-- Where a slot stands, in the columns that CREATE_REPLICATION_SLOT answers with; its name follows as a literal, since the
-- replication protocol takes no parameters.
select slot_name, confirmed_flush_lsn from pg_catalog.pg_replication_slots where slot_name =
