-- The newest broadcasts of a private room since a moment.
-- $1 topic text, $2 since timestamptz, $3 how many int8, $4 the largest payload in bytes int8.
-- Returns at most $3 rows, oldest first, those of one moment in the order in which they were written: id uuid, topic, event
-- text, private bool, inserted_at timestamptz, payload text or binary_payload bytea, too_large bool.
-- Relies on messages_inserted_at_topic_index.
select id, topic, event, private, inserted_at at time zone 'utc' as inserted_at, payload::text as payload, binary_payload,
  coalesce(pg_column_size(payload), pg_column_size(binary_payload), 0) > $4::bigint as too_large
from (
  select m.*, m.tableoid as partition, m.ctid as place
  from realtime.messages m
  where m.extension = 'broadcast' and m.private and m.topic = $1::text
    and m.inserted_at >= ($2::timestamptz at time zone 'utc')
    and m.inserted_at <= (clock_timestamp() at time zone 'utc')
    and m.event is not null and (m.payload is not null or m.binary_payload is not null)
  order by m.inserted_at desc, m.tableoid desc, m.ctid desc
  limit $3::bigint
) newest
order by inserted_at, partition, place
