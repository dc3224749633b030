-- What identifies this installation on a bus that others may use. Returns one row: key bytea, known to its nodes only;
-- database text.
select k.key, pg_catalog.current_database()::text as database from rollcall_internal.notification_key k
