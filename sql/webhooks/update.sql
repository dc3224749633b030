-- Changes a webhook. $1 id uuid, $2 jsonb: fields that are absent keep their values. Returns it as a JSON object,
-- without secrets; no row if there is none.
update rollcall.webhooks w set
  url = coalesce(c.new ->> 'url', w.url),
  secret = coalesce(c.new ->> 'secret', w.secret),
  previous_secret = case when c.new ? 'previous_secret' then c.new ->> 'previous_secret' else w.previous_secret end,
  events = case when c.new ? 'events' then array(select jsonb_array_elements_text(c.new -> 'events')) else w.events end,
  filter = coalesce(c.new -> 'filter', w.filter),
  enabled = coalesce((c.new ->> 'enabled')::boolean, w.enabled),
  description = coalesce(c.new ->> 'description', w.description)
from (select $2::jsonb as new) c
where w.id = $1
returning to_jsonb(w) - array['secret', 'previous_secret'] || jsonb_build_object(
  'created_at', rollcall.iso_time(w.created_at), 'updated_at', rollcall.iso_time(w.updated_at))
