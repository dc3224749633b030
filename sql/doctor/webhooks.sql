-- Whether webhooks receive their events.
-- Returns one row: name text, ok bool, finding text, remedy text (SQL, or null where none helps).
select 'webhooks' as name, s.dead = 0 and s.lag < 900 as ok,
  case
    when s.dead > 0 then
      format('%s events were not accepted by webhooks; rollcall.webhook_dead_letters shows why', s.dead)
    when s.lag >= 900 then
      format('an event waits for a webhook since %s s; rollcall.webhook_status() shows why', round(s.lag))
    else 'webhooks receive their events'
  end as finding,
  case when s.dead > 0 then 'select w.id, rollcall.resend_dead_letters(w.id) from rollcall.webhooks w;' end as remedy
from (
  select (select count(*) from rollcall_internal.dead_letters l where l.resend_at is null) as dead,
    coalesce((select max(w.lag_seconds) from rollcall.webhook_status() w), 0) as lag
) s
