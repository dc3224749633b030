-- Adds users to organizations in turn. $1 user ids uuid[], $2 number of organizations int.
insert into public.bench_members (user_id, org)
select u.id, (u.n % $2::int)::int from unnest($1::uuid[]) with ordinality as u (id, n)
