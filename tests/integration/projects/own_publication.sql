-- The publication of the project is not the one of Supabase: a table of another schema is published with a row filter
-- and a column list, the membership of schemas changes, and a second publication holds all tables.
--! on postgres
--! users ann ben zoe

drop publication supabase_realtime;
create schema feed;
grant usage on schema feed to authenticated;
create table feed.items (id int primary key, owner uuid not null, body text, secret text, draft boolean not null default false);
create table feed.likes (item int references feed.items on delete cascade, who uuid, primary key (item, who));
alter table feed.items enable row level security;
alter table feed.items force row level security;
alter table feed.likes enable row level security;
grant select on feed.items, feed.likes to authenticated;
revoke select on feed.items from authenticated;
grant select (id, owner, body) on feed.items to authenticated;
create policy everything on feed.items for all to postgres using (true);
create policy mine on feed.items for select to authenticated using (owner = auth.uid());
create policy likes on feed.likes for select to authenticated using (who = auth.uid());
create publication supabase_realtime for table feed.likes, feed.items (id, owner, body, draft) where (not draft);
alter publication supabase_realtime owner to postgres;
create policy own on realtime.messages for all to authenticated
  using (realtime.topic() = auth.uid()::text) with check (realtime.topic() = auth.uid()::text);

--! superuser
create publication everything for all tables;

--! install
--! channel a0000000-0000-4000-8000-000000000001 ann rw
--! channel a0000000-0000-4000-8000-000000000001 ben none

--! changes feed.items to ann
insert into feed.items (id, owner, body) values (1, :ann, 'a');

--! changes feed.items to
insert into feed.items (id, owner, body, draft) values (2, :ann, 'a', true);

--! changes feed.likes to ben
insert into feed.likes values (1, :ben);

