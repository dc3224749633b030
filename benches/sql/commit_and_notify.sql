-- The least that a durable change that others hear of costs.
with changed as (update public.bench_row set n = n + 1 where id = 1 returning id)
select pg_notify('bench', '') from changed
