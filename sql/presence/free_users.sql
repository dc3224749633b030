-- Whose rows no other session has locked. $1 users uuid[]. Returns their ids. Locks the rows until the end of the statement.
with last_seen as (
  select l.user_id from rollcall.user_last_seen l where l.user_id = any ($1::uuid[]) for no key update skip locked
),
choices as (
  select c.user_id from rollcall.presence_choices c where c.user_id = any ($1::uuid[]) for no key update skip locked
),
devices as (
  select d.user_id from rollcall.presence_devices d where d.user_id = any ($1::uuid[]) for no key update skip locked
),
faces as (
  select p.user_id from rollcall.user_presence p where p.user_id = any ($1::uuid[]) for no key update skip locked
)
select u.id
from pg_catalog.unnest($1::uuid[]) as u (id)
where (select count(*) from last_seen l where l.user_id = u.id)
    = (select count(*) from rollcall.user_last_seen l where l.user_id = u.id)
  and (select count(*) from choices c where c.user_id = u.id)
    = (select count(*) from rollcall.presence_choices c where c.user_id = u.id)
  and (select count(*) from devices d where d.user_id = u.id)
    = (select count(*) from rollcall.presence_devices d where d.user_id = u.id)
  and (select count(*) from faces f where f.user_id = u.id)
    = (select count(*) from rollcall.user_presence p where p.user_id = u.id)
