-- A table that a policy on user_presence reads and one like it that none reads, and contacts without triggers.
create table public.bench_grants (viewer_id uuid not null, subject_id uuid not null);
create table public.bench_grants_bare (viewer_id uuid not null, subject_id uuid not null);
create table public.bench_contacts_bare (like rollcall.contacts including all);
create policy "bench grants" on rollcall.user_presence for select to authenticated using (exists (
  select from public.bench_grants g where g.viewer_id = (select auth.uid()) and g.subject_id = user_presence.user_id));
