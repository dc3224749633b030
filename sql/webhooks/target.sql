-- Where a webhook is, and what signs its requests. $1 id uuid. Returns url text, secrets text[].
select w.url, array_remove(array[w.secret, w.previous_secret], null) as secrets
from rollcall.webhooks w
where w.id = $1
