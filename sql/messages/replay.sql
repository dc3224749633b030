-- The newest broadcasts of a private room since a moment, and which others of the last moments there are: those may be on
-- their way to a node that reads this, and come before what it has read. Both in one snapshot.
-- $1 topic text, $2 since timestamptz, $3 how many int8, $4 the largest payload in bytes int8, $5 seconds float8 in which
-- others may still be on their way, $6 how many of those int8.
-- Returns at most $3 rows with is_told true, oldest first, those of one moment in the order in which they were written: id
-- uuid, topic, event text, private bool, inserted_at timestamptz, payload text or binary_payload bytea, too_large bool;
-- and at most $6 rows of others, with their ids alone.
-- Relies on messages_inserted_at_topic_index.
with newest as materialized (
  select m.*, m.tableoid as partition, m.ctid as place
  from realtime.messages m
  where m.extension = 'broadcast' and m.private and m.topic = $1::text
    and m.inserted_at >= ($2::timestamptz at time zone 'utc')
    and m.inserted_at <= (clock_timestamp() at time zone 'utc')
    and m.event is not null and (m.payload is not null or m.binary_payload is not null)
  order by m.inserted_at desc, m.tableoid desc, m.ctid desc
  limit $3::bigint
), recent as materialized (
  select m.id
  from realtime.messages m
  where m.extension = 'broadcast' and m.private and m.topic = $1::text
    and m.inserted_at >= ((clock_timestamp() - make_interval(secs => $5::float8)) at time zone 'utc')
  order by m.inserted_at desc
  limit $6::bigint
), told as (
  select n.id, n.topic, n.event, n.private, n.inserted_at at time zone 'utc' as inserted_at, n.payload::text as payload,
    n.binary_payload, coalesce(pg_column_size(n.payload), pg_column_size(n.binary_payload), 0) > $4::bigint as too_large,
    true as is_told
  from newest n
  order by n.inserted_at, n.partition, n.place
)
select id, topic, event, private, inserted_at, payload, binary_payload, too_large, is_told from told
union all
select r.id, null, null, null, null, null, null, null, false from recent r
where not exists (select from newest n where n.id = r.id)
