-- Rows of realtime.messages of the last $1 seconds float8, at most the newest $2 int8 of them.
-- Returns one row each: id uuid, oldest first; those of one moment in the order in which they were written.
select id
from (
  select id, inserted_at, tableoid, ctid
  from realtime.messages
  where inserted_at >= (clock_timestamp() - $1::float8 * interval '1 second') at time zone 'utc'
  order by inserted_at desc, tableoid desc, ctid desc
  limit $2::bigint
) missed
order by inserted_at, tableoid, ctid
