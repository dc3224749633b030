-- Releases a failed claim. $1 user uuid, $2 lease uuid, $3 error text, $4 seconds to wait float8, $5 entries to give up bigint[].
select rollcall_internal.postpone_learning($1, $2, $3, make_interval(secs => $4), $5)
