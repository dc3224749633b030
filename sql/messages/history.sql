-- The broadcasts of a topic with a history that a client missed, and which others of the last moments there are: those
-- may be on their way to a node that reads this. Both in one snapshot.
-- $1 topic text, $2 private bool, $3 ids uuid[] that the client has, the last one newest, or null, $4 since timestamptz,
-- used if $3 is null, $5 seconds float8 and $6 number int8 of broadcasts that the history keeps, $7 maximum number int8
-- and $8 bytes int8 to return, the newest, $9 seconds float8 before the position in which transactions may have
-- committed later, $10 the largest payload in bytes int8, $11 seconds float8 in which others may still be on their way,
-- $12 how many of those int8.
-- Returns rows with is_replayed true, oldest first: id uuid, topic, event text, private bool, inserted_at timestamptz,
-- payload text or binary_payload bytea, too_large bool; rows of others with their ids alone; and one row with a null id,
-- is_complete bool: one of the ids is kept, and nothing after it is left out.
-- Relies on messages_inserted_at_topic_index and messages_inserted_at_public_topic_index.
with kept as materialized (
  select m.*, m.tableoid as partition, m.ctid as place,
    coalesce(pg_column_size(m.payload), pg_column_size(m.binary_payload), 0) as bytes
  from realtime.messages m
  where m.extension = 'broadcast' and m.private = $2::bool and m.topic = $1::text
    and m.inserted_at >= ((clock_timestamp() - make_interval(secs => $5::float8)) at time zone 'utc')
    and m.event is not null and (m.payload is not null or m.binary_payload is not null)
  order by m.inserted_at desc, m.tableoid desc, m.ctid desc
  limit $6::bigint
), last_received as materialized (
  select k.inserted_at
  from kept k
  join pg_catalog.unnest($3::uuid[]) with ordinality as received (id, place) on received.id = k.id
  order by received.place desc
  limit 1
), missed as materialized (
  select k.*, count(*) over newest as number, sum(k.bytes) over newest as total_bytes
  from kept k
  where case
    when $3::uuid[] is null then k.inserted_at >= ($4::timestamptz at time zone 'utc')
    else k.id <> all ($3::uuid[]) and coalesce(
      k.inserted_at >= (select r.inserted_at from last_received r) - make_interval(secs => $9::float8), true)
  end
  window newest as (order by k.inserted_at desc, k.partition desc, k.place desc rows unbounded preceding)
), replayed as (
  select m.id, m.topic, m.event, m.private, m.inserted_at at time zone 'utc' as inserted_at, m.payload::text as payload,
    m.binary_payload, m.bytes > $10::bigint as too_large, true as is_replayed, null::bool as is_complete
  from missed m
  where m.number <= $7::bigint and m.total_bytes <= $8::bigint
  order by m.inserted_at, m.partition, m.place
)
select id, topic, event, private, inserted_at, payload, binary_payload, too_large, is_replayed, is_complete from replayed
union all
select r.id, null, null, null, null, null, null, null, false, null
from (
  select m.id
  from realtime.messages m
  where m.extension = 'broadcast' and m.private = $2::bool and m.topic = $1::text
    and m.inserted_at >= ((clock_timestamp() - make_interval(secs => $11::float8)) at time zone 'utc')
  order by m.inserted_at desc
  limit $12::bigint
) r
where not exists (select from missed m where m.id = r.id and m.number <= $7::bigint and m.total_bytes <= $8::bigint)
union all
select null, null, null, null, null, null, null, null, false,
  exists (select from last_received)
    and not exists (select from missed m where m.number > $7::bigint or m.total_bytes > $8::bigint)
