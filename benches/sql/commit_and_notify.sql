-- The minimal cost of a durable change with a notification.
with changed as (update public.bench_row set n = n + 1 where id = 1 returning id)
select pg_notify('bench', '') from changed
