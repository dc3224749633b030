-- Batches for webhooks that have something to deliver, each leased. $1 node uuid, $2 lease in seconds float8,
-- $3 limit int.
select c.webhook_id, c.url, c.secrets, c.message_id, c.events, c.attempt, c.lease
from rollcall_internal.claim_webhooks($1, make_interval(secs => $2), $3) c
