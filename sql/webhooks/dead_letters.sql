-- Dead letters of a webhook in the order of their events. $1 webhook uuid, $2 event id to continue behind bigint,
-- $3 limit bigint. Returns one JSON list; no row if there is no such webhook.
select (
  select coalesce(jsonb_agg(l.letter order by l.event_id), '[]')
  from (
    select l.event_id, to_jsonb(l) - array['webhook_id', 'user_id', 'topic'] || jsonb_build_object(
      'event_id', l.event_id::text, 'occurred_at', rollcall.iso_time(l.occurred_at),
      'failed_at', rollcall.iso_time(l.failed_at), 'resend_at', rollcall.iso_time(l.resend_at)) as letter
    from rollcall.webhook_dead_letters l
    where l.webhook_id = w.id and l.event_id > $2
    order by l.event_id limit $3
  ) l
)
from rollcall.webhooks w
where w.id = $1
