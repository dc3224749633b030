-- What authenticates notifications. Returns one row: key bytea; log_token text, for messages in the log.
select k.key, k.log_token::text from rollcall_internal.notification_key k
