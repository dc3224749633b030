-- Moves a user to the next organization. $1 user id uuid, $2 number of organizations int.
update public.bench_members set org = (org + 1) % $2 where user_id = $1
