create policy "bench named" on rollcall.user_presence for select to authenticated using (face = 'public' and exists (
  select from public.bench_members a join public.bench_members b on a.org = b.org
  where a.user_id = (select auth.uid()) and b.user_id = user_presence.user_id))
