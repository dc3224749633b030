-- Creates bench.users users (100,000 in a full run) with 50 accepted contacts each, with triggers disabled.
set session_replication_role = replica;
set maintenance_work_mem = '256MB';
set synchronous_commit = off;

-- Loading without indexes is several times as fast.
alter table rollcall.contacts drop constraint contacts_pkey;
drop index rollcall.contacts_addressee_id, rollcall.contacts_pair;

create table public.bench_users as
select n, md5('user ' || n)::uuid as id from generate_series(0, current_setting('bench.users')::int - 1) as n;
alter table public.bench_users add primary key (n);
analyze public.bench_users;

-- A ring: each user is a contact of the 25 before and the 25 after. IDs are random, so contacts are spread over all pages.
insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
select one.id, other.id, now()
from public.bench_users one
cross join generate_series(1, 25) as step
join public.bench_users other on other.n = (one.n + step) % current_setting('bench.users')::int;
alter table rollcall.contacts add constraint contacts_pkey primary key (requester_id, addressee_id);
create index contacts_addressee_id on rollcall.contacts (addressee_id);
create unique index contacts_pair on rollcall.contacts (least(requester_id, addressee_id), greatest(requester_id, addressee_id));

-- Three of ten are online. Heartbeats are in the future, so that the sweep does not expire the devices.
insert into rollcall.presence_devices (user_id, device_id, status, last_heartbeat_at, last_active_at)
select id, 'rest', case when n % 10 < 3 then 'online' else 'offline' end::rollcall.presence_status,
  now() + interval '1 hour', now() + interval '1 hour'
from public.bench_users order by id;
insert into rollcall.user_last_seen (user_id, last_seen) select id, now() from public.bench_users order by id;
insert into rollcall.user_presence (user_id, face, status, reach, last_seen)
select id, face,
  case when n % 10 < 3 then 'online' else 'offline' end::rollcall.presence_status,
  case when n % 10 < 3 then 'online' else 'offline' end::rollcall.presence_reach,
  date_trunc('milliseconds', now())
from public.bench_users, unnest(enum_range(null::rollcall.presence_face)) as face
order by id, face;
