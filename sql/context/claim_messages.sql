-- Claims queued messages of some users. $1 id of the last user uuid, $2 maximum number of users int. Returns one row per user.
select user_id, lease, attempts, entries, messages from rollcall_internal.claim_messages($1, $2)
