-- Waits until transactions of the WAL are visible to snapshots. $1 ids without their epoch bigint[].
select rollcall_internal.wait_until_visible($1)
