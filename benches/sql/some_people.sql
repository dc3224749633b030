-- $1 how many; spread over all of them. Each with ten contacts.
select one.id, array(
  select other.id from public.bench_person other where other.n between one.n + 1 and one.n + 10
) as contacts
from public.bench_person one
where one.n % ((select count(*) from public.bench_person) / $1::bigint) = 0
order by one.n
limit $1
