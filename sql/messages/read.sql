-- New rows of realtime.messages, in the order of their ids in $1.
-- $1 ids uuid[], $2 the largest payload in bytes int8, $3 how many bytes to read at once int8: what is over it is left out,
-- from the end; the first is always there.
-- Returns one row an id: place int8 (from 1), id uuid (null where there is no such row any more), topic, event text, private
-- bool, inserted_at timestamptz, payload text or binary_payload bytea, too_large bool (then neither is there), is_unordered bool:
-- a revocation that was committed before may not have been notified yet.
-- Relies on messages_pkey.
select place, id, topic, event, private, inserted_at at time zone 'utc' as inserted_at,
  case when not too_large then text end as payload, case when not too_large then binary_payload end as binary_payload,
  coalesce(too_large, false) as too_large, relay.is_unordered
from (
  select wanted.place, m.id, m.topic, m.event, m.private, m.inserted_at, m.binary_payload, shown.text,
    coalesce(octet_length(shown.text), octet_length(m.binary_payload), 0) > $2::bigint as too_large,
    sum(coalesce(pg_column_size(m.payload), 0) + coalesce(pg_column_size(m.binary_payload), 0)) over (order by wanted.place)
      - coalesce(pg_column_size(m.payload), 0) - coalesce(pg_column_size(m.binary_payload), 0) as before
  from unnest($1::uuid[]) with ordinality as wanted (id, place)
  left join realtime.messages m on m.id = wanted.id
  -- Written out once, not once a mention.
  left join lateral (select m.payload::text as text offset 0) shown on true
) read
cross join (select rollcall_internal.notifications_are_unordered() as is_unordered) relay
where place = 1 or before < $3::bigint
order by place
