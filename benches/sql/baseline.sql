-- Tables for the baseline measurements of bare PostgreSQL.
create table public.bench_upsert (id int primary key, status text not null, at timestamptz not null) with (fillfactor = 80);
create table public.bench_row (id int primary key, n bigint not null) with (fillfactor = 50);
insert into public.bench_row values (1, 0);
