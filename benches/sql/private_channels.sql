-- The most common policy of private channels: members read and write.
create table public.bench_members (
  user_id uuid,
  room text,
  primary key (user_id, room)
);
grant select on public.bench_members to authenticated;
create policy "members read" on realtime.messages for select to authenticated
  using (exists (select from public.bench_members m where m.user_id = auth.uid() and m.room = (select realtime.topic())));
create policy "members write" on realtime.messages for insert to authenticated
  with check (exists (select from public.bench_members m where m.user_id = auth.uid() and m.room = (select realtime.topic())));
