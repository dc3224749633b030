-- Adds each user to each of the benchmark's rooms. $1 user ids uuid[].
insert into public.bench_members (user_id, room)
select u.id, 'room' || n
from unnest($1::uuid[]) as u (id), generate_series(0, 99) as n
on conflict do nothing;
