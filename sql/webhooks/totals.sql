-- Returns lag_seconds float8: how long the oldest event waits for a webhook; dead_letters bigint.
select coalesce(max(s.lag_seconds), 0) as lag_seconds, coalesce(sum(s.dead_letters), 0)::bigint as dead_letters
from rollcall.webhook_status() s
