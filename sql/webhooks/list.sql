-- All webhooks with their state, oldest first. Returns a JSON object a row, without secrets.
select to_jsonb(w) - array['secret', 'previous_secret'] || jsonb_build_object(
  'created_at', rollcall.iso_time(w.created_at), 'updated_at', rollcall.iso_time(w.updated_at),
  'state', to_jsonb(s) - 'webhook_id' || jsonb_build_object(
    'next_attempt_at', rollcall.iso_time(s.next_attempt_at),
    'last_delivered_at', rollcall.iso_time(s.last_delivered_at),
    'last_failed_at', rollcall.iso_time(s.last_failed_at)))
from rollcall.webhooks w
join rollcall.webhook_status() s on s.webhook_id = w.id
order by w.created_at, w.id
