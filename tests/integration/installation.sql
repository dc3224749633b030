-- A chat application with its own tables and types under names that Rollcall uses too. Its functions name their tables
-- without a schema, as most applications do.
create type message_role as enum ('writer', 'reader');
create type presence_status as enum ('here', 'gone');
create type proficiency as enum ('low', 'high');
create table contacts (id bigint primary key, name text not null);
create table teams (id bigint primary key, name text);
create table conversations (id bigint primary key, subject text);
create table memories (id bigint primary key, note text);
create table blocks (id bigint primary key, reason text);
create table messages (
  id bigint primary key,
  conversation_id bigint references conversations (id),
  role message_role not null default 'writer',
  body text
);
insert into conversations values (1, 'Harbour');
insert into messages values (1, 1, 'writer', 'hello');

create table members (room text, user_id uuid);
-- auth.uid() may not exist yet.
create function auth_id() returns uuid
  language sql stable
as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;

create function is_member(room_name text) returns boolean
  language sql stable
  security definer
as $$ select exists (select from members where room = room_name and user_id = auth_id()) $$;

create table audit (user_id uuid, at timestamptz default now());
create function audit_presence() returns trigger
  language plpgsql
  security definer
as $$
begin
  insert into audit (user_id) values (new.user_id);
  return null;
end
$$;
