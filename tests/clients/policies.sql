-- Policies of private channels for the client tests. `open:` allows signed-in users everything, `readonly:` only reading,
-- `members:` is limited to the users in the table.
create policy "clients: open, read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'open:%' and extension in ('broadcast', 'presence'));
create policy "clients: open, write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'open:%' and extension in ('broadcast', 'presence'));
create policy "clients: readonly, read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'readonly:%' and extension in ('broadcast', 'presence'));

create table public.client_members (topic text, user_id uuid, primary key (topic, user_id));
alter table public.client_members enable row level security;
grant select on public.client_members to authenticated;
create policy "own rows" on public.client_members for select to authenticated using (user_id = (select auth.uid()));
create policy "clients: members, read" on realtime.messages for select to authenticated
  using (exists (select from public.client_members m
    where m.user_id = (select auth.uid()) and m.topic = (select realtime.topic())));
create policy "clients: members, write" on realtime.messages for insert to authenticated
  with check (exists (select from public.client_members m
    where m.user_id = (select auth.uid()) and m.topic = (select realtime.topic())));

-- Tables for the postgres_changes tests: one that every user may read, and one where users read their own rows.
create table public.client_notes (id bigint generated always as identity primary key, room text, title text, rank int);
grant select on public.client_notes to anon, authenticated;
create table public.client_todos (id bigint generated always as identity primary key, user_id uuid not null, body text);
alter table public.client_todos enable row level security;
grant select on public.client_todos to authenticated;
create policy "own todos" on public.client_todos for select to authenticated using (user_id = (select auth.uid()));
do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$$;
alter publication supabase_realtime add table public.client_notes, public.client_todos;

-- A broadcast trigger as in the Supabase guides.
create table public.client_messages (id int generated always as identity primary key, topic text not null, body text);
create function public.broadcast_client_messages() returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.broadcast_changes(coalesce(new.topic, old.topic), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end
$$;
create trigger broadcast after insert or update or delete on public.client_messages
  for each row execute function public.broadcast_client_messages();
