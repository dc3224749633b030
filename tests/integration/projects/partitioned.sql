-- Memberships in partitions, inherited tables, generated and identity columns, text identifiers of users and groups,
-- materialized views and foreign keys between all of them.
--! on supabase
--! users ann ben zoe

create domain public.room_code as varchar(40) check (value ~ '^[A-Z]');
create table public.rooms (code public.room_code primary key, title text, size int generated always as (char_length(title)) stored);
create table public.seats (
  code public.room_code not null references public.rooms on delete cascade, person text not null, tenant int not null default 1,
  label text generated always as (code::text || '/' || person) stored, primary key (tenant, code, person)
) partition by list (tenant);
create table public.seats_1 partition of public.seats for values in (1);
create table public.seats_rest partition of public.seats default;
create index on public.seats (person);
create index on public.seats (code);
create table public.links (id serial primary key, a uuid not null, b uuid not null);
create table public.old_links (imported_at date) inherits (public.links);
create index on public.links (a); create index on public.links (b);
create index on public.old_links (a); create index on public.old_links (b);
create materialized view public.seat_counts as select code, count(*) from public.seats group by code;
create function public.sits(room text) returns boolean
  language sql stable security definer
as $$ select exists (select from seats where code = room and person = auth.uid()::text) $$;
alter table public.rooms enable row level security;
alter table public.seats enable row level security;
alter table public.links enable row level security;
create policy sitting on public.rooms for select to authenticated using (sits(code));
create policy mine on public.seats for select to authenticated using (person = auth.uid()::text and label is not null);
create policy sit on realtime.messages for all to authenticated using (sits(realtime.topic())) with check (sits(realtime.topic()));
alter publication supabase_realtime set (publish_via_partition_root = true);
alter publication supabase_realtime add table public.seats, public.rooms;
insert into public.rooms values ('Red', 'Red room'), ('Blue', 'Blue room');
insert into public.seats (code, person, tenant) values ('Red', :ann, 1), ('Red', :ben, 2), ('Blue', :zoe, 1), ('Blue', 'machine', 3);
insert into public.old_links (a, b) values (:ann, :ben);

--! install
--! channel Red ann rw
--! channel Blue ann none
--! channel Red zoe none

--! changes public.rooms to ann ben
update public.rooms set title = 'A red room' where code = 'Red';

--! changes public.seats to zoe
insert into public.seats (code, person, tenant) values ('Red', :zoe, 7);

--! channel Red zoe rw
select rollcall.use_table('participants', 'seats', group_column => 'code', user_column => 'person', condition => 'tenant < 9');
select rollcall.use_table('contacts', 'links', user_column => 'a', other_column => 'b');
--! online ann ben zoe
--! sees ann ben
--! sees ben ann
--! hides zoe ann ben
--! types ann Red
--! silent ann Blue

create table public.seats_8 partition of public.seats for values in (8);
insert into public.seats (code, person, tenant) values ('Blue', :ann, 8);
--! types ann Blue
drop table public.seats_8;
--! silent ann Blue

truncate public.old_links;
--! hides ann ben
insert into public.links (a, b) values (:ben, :zoe);
--! sees ben zoe
drop table public.old_links;
alter table public.links disable trigger all;
delete from public.links where b = :ben;
alter table public.links enable trigger all;
create table public.old_links (imported_at date) inherits (public.links);
create index on public.old_links (a); create index on public.old_links (b);
