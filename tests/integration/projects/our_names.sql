-- An application whose tables, types and functions have the names of ours, and which shadows functions and operators of
-- PostgreSQL in its own schema.
--! on postgres
--! users alice bob mallory

create type status as enum ('a', 'b');
create type presence_status as enum ('here', 'gone');
create type presence_visibility as enum ('x');
create table messages (id int primary key, conversation_id int, body text);
create table contacts (id int primary key, user_id uuid, name text, email text);
create table teams (id int primary key, name text);
create table team_members (team_id int, user_id uuid, primary key (team_id, user_id));
create table conversations (id int primary key, title text);
create table conversation_participants (conversation_id int, user_id uuid, primary key (conversation_id, user_id));
create table blocks (blocker uuid, blocked uuid, primary key (blocker, blocked));
create table memories (id int primary key);
create table user_presence (user_id uuid primary key, online boolean);
create table presence_devices (id uuid primary key);
create table presence_settings (id uuid primary key);
create table user_context (user_id uuid primary key, facts text);
create table typing_indicators (who uuid);
create table schema_migrations (version text);
create table channel_presence (topic text);
create table own_tables (relation int);
create table installed_objects (id int);
create table new_rows (id uuid);
create table old_rows (id uuid);
create index on conversation_participants (user_id);
create index on blocks (blocked);
create function set_status(uuid, text) returns void language plpgsql as $$ begin raise 'public.set_status'; end $$;
create function use_table(text, text) returns void language plpgsql as $$ begin raise 'public.use_table'; end $$;
create function sweep() returns void language plpgsql as $$ begin raise 'public.sweep'; end $$;
create function on_ddl() returns void language plpgsql as $$ begin raise 'public.on_ddl'; end $$;
create function contacts_of(uuid) returns setof uuid language plpgsql as $$ begin raise 'public.contacts_of'; end $$;
-- Closer matches than those of pg_catalog, which PostgreSQL prefers.
create function format(text, text) returns text language plpgsql as $$ begin raise 'public.format'; end $$;
create function format(text, text, text) returns text language plpgsql as $$ begin raise 'public.format'; end $$;
create function concat_ws(text, text, text) returns text language plpgsql as $$ begin raise 'public.concat_ws'; end $$;
create function jsonb_build_object(text, text) returns jsonb language plpgsql as $$ begin raise 'public.jsonb_build_object'; end $$;
create function cardinality(text[]) returns int language plpgsql as $$ begin raise 'public.cardinality'; end $$;
create function array_length(uuid[], int) returns int language plpgsql as $$ begin raise 'public.array_length'; end $$;
create function unnest(uuid[]) returns setof uuid language plpgsql as $$ begin raise 'public.unnest'; end $$;
create function unnest(text[]) returns setof text language plpgsql as $$ begin raise 'public.unnest'; end $$;
create function max(text[]) returns text language plpgsql as $$ begin raise 'public.max'; end $$;
create function never(uuid, uuid[]) returns boolean language plpgsql as $$ begin raise 'public operator'; end $$;
create function never(text, name) returns boolean language plpgsql as $$ begin raise 'public operator'; end $$;
create function never(text, varchar) returns boolean language plpgsql as $$ begin raise 'public operator'; end $$;
create function never_text(text, jsonb) returns text language plpgsql as $$ begin raise 'public operator'; end $$;
create operator = (function = never, leftarg = text, rightarg = name);
create operator = (function = never, leftarg = text, rightarg = varchar);
create operator <> (function = never, leftarg = text, rightarg = name);
create operator || (function = never_text, leftarg = text, rightarg = jsonb);

create function is_participant(text) returns boolean
  language sql stable security definer
as $$
  select exists (select from conversation_participants p where p.user_id = auth.uid() and 'conversation:' || p.conversation_id = $1)
$$;
alter table messages enable row level security;
alter table contacts enable row level security;
alter table conversation_participants enable row level security;
alter table team_members enable row level security;
create policy "participants read" on messages for select to authenticated using (is_participant('conversation:' || conversation_id));
create policy "participants listen" on realtime.messages for select to authenticated using (is_participant(realtime.topic()));
create policy "participants speak" on realtime.messages for insert to authenticated with check (is_participant(realtime.topic()));
alter publication supabase_realtime add table messages;
insert into conversations values (5, 'Boats');
insert into conversation_participants values (5, :alice), (5, :bob);
insert into team_members values (1, :alice), (1, :bob);

--! install
--! channel conversation:5 alice rw
--! channel conversation:5 mallory none

--! changes public.messages to alice bob
insert into messages values (1, 5, 'ahoy');

select rollcall.use_table('participants', 'conversation_participants', group_column => 'conversation_id', user_column => 'user_id');
select rollcall.use_table('team_members', 'team_members', group_column => 'team_id', user_column => 'user_id',
  condition => 'exists (select from conversations c where c.id = 5)');
select rollcall.use_table('blocks', 'blocks', user_column => 'blocker', other_column => 'blocked');
insert into rollcall.presence_settings (user_id, visibility) values (:alice, 'team'), (:bob, 'team');
--! online alice bob
--! sees alice bob
--! hides mallory alice bob
--! types alice 5
--! silent mallory 5

insert into blocks values (:bob, :alice);
--! hides alice bob
delete from blocks;
--! sees alice bob
delete from conversations;
--! hides alice bob
