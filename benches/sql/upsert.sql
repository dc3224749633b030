\set id random(1, 1000)
insert into public.bench_upsert (id, status, at) values (:id, 'busy', now())
on conflict (id) do update set status = excluded.status, at = excluded.at;
