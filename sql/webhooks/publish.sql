-- Moves recorded events to readers and webhooks. $1 boolean: compare the members of all channels with what was told.
-- Returns recording boolean, count bigint. Without recording and without a queue nothing is written.
select s.records_presence or s.records_channels as recording,
  case when s.records_presence or s.records_channels or exists (select from rollcall_internal.event_queue)
      or exists (select from rollcall_internal.events)
    then rollcall_internal.publish_events($1) else 0 end as count
from rollcall.event_settings s
