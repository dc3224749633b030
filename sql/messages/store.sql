-- Stores broadcasts of clients, in their order. The trigger of the table notifies the nodes of them.
-- $1 ids uuid[], $2 topics text[], $3 events text[], $4 JSON payloads text[] (null: binary), $5 binary payloads bytea[]
-- (null: JSON), $6 private bool[], $7 bool: an earlier attempt may have stored them.
-- Returns no row.
insert into realtime.messages (id, topic, extension, event, payload, binary_payload, private)
select w.id, w.topic, 'broadcast', w.event, w.payload::jsonb, w.binary_payload, w.private
from rows from (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
    pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::bytea[]), pg_catalog.unnest($6::bool[]))
  with ordinality as w (id, topic, event, payload, binary_payload, private, place)
where not $7::bool or not exists (
  select from realtime.messages m
  where m.id = w.id and m.inserted_at > (clock_timestamp() - interval '10 minutes') at time zone 'utc')
order by w.place
