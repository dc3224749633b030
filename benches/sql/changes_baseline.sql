-- One check per change and subscriber, as Supabase Realtime does it. $1 table text, $2 ids bigint[], $3 users uuid[].
select public.bench_per_subscriber($1, $2, $3)
