-- A vector for each unit and memory: one of 1,000 centres and one of 3,000 deviations. 300 vectors near some of them.
select rollcall_internal.prepare_vectors('bench', 1536);
create function bench.random_vector(n int, p_size float) returns text language sql volatile as $$
  select '[' || string_agg((p_size * (random() - 0.5))::real::text, ',') || ']' from generate_series(1, 1536) where n is not null
$$;
create table bench.centres as select n, bench.random_vector(n, 1.0)::extensions.vector(1536) as v from generate_series(0, 999) n;
create table bench.deviations as select n, bench.random_vector(n, 0.7)::extensions.vector(1536) as v from generate_series(0, 2999) n;
-- Built once, which is faster than row by row.
create table bench.hnsw as
  select indexname, indexdef from pg_indexes where tablename = 'vectors' and indexdef like '%hnsw%';
select format('drop index rollcall_internal.%I', indexname) from bench.hnsw \gexec
update rollcall_internal.vectors t set vector = c.v operator(extensions.+) d.v
from (select kind, id, row_number() over (order by id) as n from rollcall_internal.vectors) r
join bench.centres c on c.n = r.n % 1000
join bench.deviations d on d.n = r.n * 31 % 3000
where t.kind = r.kind and t.id = r.id;
select indexdef from bench.hnsw \gexec
create table bench.vectors as
  select g.n, c.v operator(extensions.+) d.v as vector
  from generate_series(1, 300) g (n) join bench.centres c on c.n = g.n * 7 % 1000 join bench.deviations d on d.n = g.n * 11 % 3000;
create index on bench.vectors (n);
grant select on all tables in schema bench to authenticated;
vacuum analyze;
