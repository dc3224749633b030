-- A project without anything in `public`: the search_path of the database and of the roles leads elsewhere, and one of
-- them lists pg_catalog at its end.
--! on postgres
--! users ann ben zoe

create schema core;
create schema extra;
create role app_worker nologin noinherit;
grant usage on schema core, extra to anon, authenticated, service_role;
revoke all on schema public from public, anon, authenticated, service_role;
alter database own_paths set search_path = core, extra;
alter role authenticated in database own_paths set search_path = extra, core, pg_catalog;
alter role postgres in database own_paths set search_path = core, extra, pg_catalog;
set search_path = core, extra;
create table core.follows (follower uuid, followed uuid, muted boolean default false, primary key (follower, followed));
create index on core.follows (followed);
create table core.posts (id int primary key, author uuid, body text);
-- The one of `extra` comes first for authenticated only.
create function core.may_listen(topic text) returns boolean language plpgsql stable as $$ begin raise 'core.may_listen'; end $$;
create function extra.may_listen(topic text) returns boolean
  language plpgsql stable security definer
as $$ begin return exists (select from follows where follower = auth.uid() and 'feed:' || followed = topic and not muted); end $$;
create function extra.listens(topic text) returns boolean language plpgsql stable as $$ begin return may_listen(topic); end $$;
alter table core.follows enable row level security;
alter table core.posts enable row level security;
grant select on all tables in schema core to authenticated;
create policy mine on core.follows for select to authenticated using (auth.uid() in (follower, followed));
create policy followed on core.posts for select to authenticated using (author = auth.uid() or listens('feed:' || author));
create policy listen on realtime.messages for select to authenticated using (listens(realtime.topic()));
create policy speak on realtime.messages for insert to authenticated with check (realtime.topic() = 'feed:' || auth.uid()::text);
alter publication supabase_realtime add table core.posts;
insert into core.follows values (:ann, :ben, false), (:ben, :zoe, true);

--! install
--! channel feed:a0000000-0000-4000-8000-000000000002 ann r
--! channel feed:a0000000-0000-4000-8000-000000000003 ben none
--! channel feed:a0000000-0000-4000-8000-000000000002 ben none

--! changes core.posts to ann ben
insert into posts values (1, :ben, 'hello');

select rollcall.use_table('contacts', 'follows', user_column => 'follower', other_column => 'followed', condition => 'not muted');
--! online ann ben zoe
--! sees ann ben
--! hides zoe ann ben

create function core.fires() returns trigger language plpgsql as $$
begin
  perform from follows;
  perform set_config('search_path', 'extra', true);
  return new;
end
$$;
create trigger fires before insert or update on rollcall.presence_devices for each row execute function fires();
create trigger fires before insert or update on rollcall.user_presence for each row execute function fires();
--! online zoe
update follows set muted = false;
--! sees ben zoe ann
drop trigger fires on rollcall.presence_devices;
drop trigger fires on rollcall.user_presence;
drop function core.fires();
