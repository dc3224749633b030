-- The original's way. $1 table text, $2 ids bigint[], $3 users uuid[].
select public.bench_per_subscriber($1, $2, $3)
