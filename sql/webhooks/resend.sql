-- Sends dead letters again. $1 webhook uuid, $2 ids uuid[] or null for all. Returns how many; no row if there is no
-- such webhook.
select rollcall.resend_dead_letters(w.id, $2) from rollcall.webhooks w where w.id = $1
