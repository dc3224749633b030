-- Claims the relay. $1 node uuid, $2 duration of the claim in seconds float8.
-- Returns one row: obstacle text, null if the log can be read; is_claimed boolean.
select obstacle, obstacle is null and rollcall_internal.claim_relay($1, $2 * interval '1 second') as is_claimed
from (
  select case
    when current_setting('wal_level') <> 'logical' then 'wal_level is not logical'
    when not exists (select from pg_publication where pubname = 'rollcall_relay') then 'the publication rollcall_relay is missing'
  end as obstacle
) checked
