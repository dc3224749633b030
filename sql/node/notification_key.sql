-- The key that authenticates notifications. Returns one row: key bytea.
select k.key from rollcall_internal.notification_key k
