-- Deletes a webhook with its dead letters. $1 id uuid. Returns a row if there was one.
delete from rollcall.webhooks w where w.id = $1 returning w.id
