-- Number of deliveries that memberships allow. $1 first id bigint, $2 rows bigint, $3 users uuid[].
select count(*)
from public.bench_rooms r
join public.bench_members m on m.room = r.room
where r.id >= $1::bigint and r.id < $1::bigint + $2::bigint and m.user_id = any($3)
