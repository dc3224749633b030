-- Members of organizations. Of the columns, seen_at is read by no policy.
create table public.bench_members (user_id uuid primary key, org int not null, seen_at timestamptz not null default now());
grant select on public.bench_members to authenticated;
-- A function with a text body: which rows it reads for whom cannot be derived.
create function public.bench_same_org(p_subject uuid) returns boolean language sql stable as $$
  select exists (select from public.bench_members a join public.bench_members b on a.org = b.org
    where a.user_id = (select auth.uid()) and b.user_id = p_subject)
$$;
