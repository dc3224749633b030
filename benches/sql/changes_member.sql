-- Adds a user to three of 100 rooms. $1 user uuid, $2 number of the user int.
insert into public.bench_members select n % 100, $1 from generate_series($2::int, $2::int + 2) n
