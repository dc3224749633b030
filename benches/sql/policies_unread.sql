-- Changes a column that no policy reads. $1 user id uuid.
update public.bench_members set seen_at = clock_timestamp() where user_id = $1
