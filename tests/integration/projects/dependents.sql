-- An application that refers to objects of ours: a removal names all of them, and goes through once they are dropped.
--! on postgres
--! users ann ben

create table public.people (id uuid primary key, name text);
create table public.links (a uuid, b uuid, primary key (a, b));
create index on public.links (b);
alter table public.people enable row level security;
create policy self on public.people for select to authenticated using (id = auth.uid());
create policy own on realtime.messages for all to authenticated using (realtime.topic() = auth.uid()::text) with check (false);
alter publication supabase_realtime add table public.people;
insert into public.people values (:ann, 'Ann'), (:ben, 'Ben');
insert into public.links values (:ann, :ben);

--! install
create policy online_people on public.people for select to authenticated
  using (exists (select from rollcall.user_presence p where p.user_id = people.id and p.status <> 'offline'));
create table public.favourites (who uuid references rollcall.user_last_seen (user_id), status rollcall.presence_status default 'online');
create domain public.shown_status as rollcall.presence_status check (value <> 'invisible');
create function public.status_of(who uuid) returns rollcall.presence_status
  language sql stable begin atomic select status from rollcall.user_presence where user_id = who limit 1; end;
create materialized view public.counts as select status, count(*) from rollcall.user_presence group by status;
create trigger touched after update on public.people for each statement execute function rollcall_internal.on_truncated();
select rollcall.use_table('contacts', 'links', user_column => 'a', other_column => 'b');
--! online ann ben
--! sees ann ben
--! channel a0000000-0000-4000-8000-000000000001 ann r

--! changes public.people to ann ben
update public.people set name = 'Anna' where id = :ann;

--! blocks policy~online_people table~favourites type~shown_status function~status_of trigger~touched counts
drop trigger touched on public.people;
drop materialized view public.counts;
drop function public.status_of(uuid);
drop domain public.shown_status;
--! blocks policy~online_people table~favourites
drop table public.favourites;
drop policy online_people on public.people;
