-- Policies of private channels for the tests. The prefix of a topic determines what signed-in users may do.
create policy "open: read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'open:%' and extension in ('broadcast', 'presence'));
create policy "open: write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'open:%' and extension in ('broadcast', 'presence'));

create policy "readonly: read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'readonly:%' and extension in ('broadcast', 'presence'));

create policy "broadcast: read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'broadcast:%' and extension = 'broadcast');
create policy "broadcast: write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'broadcast:%' and extension = 'broadcast');

create policy "presence: read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'presence:%' and extension = 'presence');
create policy "presence: write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'presence:%' and extension = 'presence');

-- Everything that a policy may read.
create policy "user: by auth.uid()" on realtime.messages for select to authenticated
  using (realtime.topic() = 'user:' || auth.uid()::text);
create policy "team: by a claim" on realtime.messages for select to authenticated
  using (realtime.topic() = 'team:' || (auth.jwt() -> 'app_metadata' ->> 'team'));
create policy "header: by a header" on realtime.messages for select to authenticated
  using (realtime.topic() = 'header:' || (current_setting('request.headers', true)::jsonb ->> 'x-room'));
create policy "column: by the row's own topic" on realtime.messages for select to authenticated
  using (topic = 'column:1' and extension = 'broadcast');

-- Permissions that claims grant one by one.
create policy "claims: broadcast" on realtime.messages for select to authenticated
  using (realtime.topic() like 'claims:%' and extension = 'broadcast' and (auth.jwt() ->> 'reads_broadcast')::boolean);
create policy "claims: presence" on realtime.messages for select to authenticated
  using (realtime.topic() like 'claims:%' and extension = 'presence' and (auth.jwt() ->> 'reads_presence')::boolean);
create policy "claims: write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'claims:%' and (auth.jwt() ->> 'can_write')::boolean);

-- Members of a room in a typical application table.
create table public.members (room text, user_id uuid, can_write boolean not null default true, primary key (room, user_id));
grant select on public.members to authenticated;
alter table public.members enable row level security;
create policy "own memberships" on public.members for select to authenticated using (user_id = (select auth.uid()));
create policy "members: read" on realtime.messages for select to authenticated
  using (exists (select from public.members m
    where m.user_id = (select auth.uid()) and 'members:' || m.room = (select realtime.topic())));
create policy "members: write" on realtime.messages for insert to authenticated
  with check (exists (select from public.members m
    where m.user_id = (select auth.uid()) and m.can_write and 'members:' || m.room = (select realtime.topic())));
