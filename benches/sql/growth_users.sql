-- $1 users.
select id from public.bench_users order by n limit $1
