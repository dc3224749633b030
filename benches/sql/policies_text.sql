create policy "bench text" on rollcall.user_presence for select to authenticated
  using (face = 'public' and public.bench_same_org(user_id))
