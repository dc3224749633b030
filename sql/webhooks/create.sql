-- Creates a webhook. $1 jsonb: url, secret, events, filter, enabled, description. Returns it as a JSON object, with its
-- secret.
insert into rollcall.webhooks as w (url, secret, events, filter, enabled, description)
select c.new ->> 'url', c.new ->> 'secret', array(select jsonb_array_elements_text(c.new -> 'events')),
  c.new -> 'filter', (c.new ->> 'enabled')::boolean, c.new ->> 'description'
from (select $1::jsonb as new) c
returning to_jsonb(w) - 'previous_secret' || jsonb_build_object('created_at', rollcall.iso_time(w.created_at),
  'updated_at', rollcall.iso_time(w.updated_at))
