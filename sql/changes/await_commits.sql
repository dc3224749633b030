-- Returns once the transactions of the log are visible to snapshots. $1 ids without their epoch bigint[].
select rollcall.await_commits($1)
