-- Returns $1 users, spread over all of them, each with ten contacts.
select one.id, array(
  select other.id from public.bench_users other where other.n between one.n + 1 and one.n + 10
) as contacts
from public.bench_users one
where one.n % ((select count(*) from public.bench_users) / $1::bigint) = 0
order by one.n
limit $1
