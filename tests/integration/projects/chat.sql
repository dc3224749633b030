-- A chat application: rooms with members, direct messages between friends. Helpers are `security definer` with
-- unqualified names, which is how most tutorials break the recursion of policies.
--! on supabase
--! users alice bob carol mallory

create type public.friend_state as enum ('pending', 'accepted', 'blocked');
create type public.message_role as enum ('member', 'bot');
create table public.profiles (
  id uuid primary key, username text unique not null check (char_length(username) >= 3), updated_at timestamptz default now()
);
create table public.rooms (id uuid primary key default gen_random_uuid(), slug text unique not null, is_public boolean not null default false);
create table public.room_members (
  room_id uuid references public.rooms on delete cascade, profile_id uuid references public.profiles on delete cascade,
  role text not null default 'member', joined_at timestamptz not null default now(), last_read timestamptz,
  primary key (room_id, profile_id)
);
create index on public.room_members (profile_id);
create table public.messages (
  id bigint generated always as identity primary key, room_id uuid not null references public.rooms on delete cascade,
  author_id uuid not null references public.profiles, role public.message_role not null default 'member', content text not null
);
create table public.friendships (
  user_id uuid references public.profiles, friend_id uuid references public.profiles,
  state public.friend_state not null default 'pending', primary key (user_id, friend_id)
);
create index on public.friendships (friend_id);

create function public.is_room_member(room uuid) returns boolean
  language sql stable security definer
as $$ select exists (select 1 from room_members where room_id = room and profile_id = auth.uid()) $$;

create function public.room_of_topic() returns uuid
  language plpgsql stable
as $$
begin
  -- Topics look like room:<slug>; rooms are private, so only a definer sees the slug.
  return room_id_for(split_part(realtime.topic(), ':', 2));
end
$$;
create function public.room_id_for(wanted text) returns uuid
  language sql stable security definer
as $$ select id from rooms where slug = wanted $$;

-- A profile is made for each new account, and last_read follows the newest message.
create function public.touch_room() returns trigger
  language plpgsql security definer
as $$
begin
  update room_members set last_read = now() where room_id = new.room_id and profile_id = new.author_id;
  return new;
end
$$;
create trigger on_message after insert on public.messages for each row execute function public.touch_room();

alter table public.profiles enable row level security;
alter table public.rooms enable row level security;
alter table public.room_members enable row level security;
alter table public.messages enable row level security;
alter table public.friendships enable row level security;
create policy "Profiles are public" on public.profiles for select using (true);
create policy "Members see rooms" on public.rooms for select to authenticated using (is_public or is_room_member(id));
create policy "Members see members" on public.room_members for select to authenticated using (is_room_member(room_id));
create policy "Members read messages" on public.messages for select to authenticated using (is_room_member(room_id));
create policy "Members write messages" on public.messages for insert to authenticated
  with check (author_id = auth.uid() and is_room_member(room_id));
create policy "Own friendships" on public.friendships for all to authenticated using (auth.uid() in (user_id, friend_id));

create policy "Members listen" on realtime.messages for select to authenticated
  using (extension in ('broadcast', 'presence') and is_room_member(room_of_topic()));
create policy "Members speak" on realtime.messages for insert to authenticated
  with check (is_room_member(room_of_topic()) and (
    select m.role <> 'muted' from room_members m where m.room_id = room_of_topic() and m.profile_id = auth.uid()));
alter publication supabase_realtime add table public.messages, public.friendships;

insert into public.profiles (id, username) values (:alice, 'alice'), (:bob, 'bob'), (:carol, 'carol'), (:mallory, 'mallory');
insert into public.rooms (id, slug) values ('b0000000-0000-4000-8000-000000000001', 'kitchen');
insert into public.room_members (room_id, profile_id, role) values
  ('b0000000-0000-4000-8000-000000000001', :alice, 'owner'), ('b0000000-0000-4000-8000-000000000001', :bob, 'muted');
insert into public.friendships values (:alice, :bob, 'accepted'), (:alice, :carol, 'pending');

--! install
--! channel room:kitchen alice rw
--! channel room:kitchen bob r
--! channel room:kitchen mallory none
--! channel room:attic alice none
--! channel kitchen alice none

--! changes public.messages to alice bob
insert into messages (room_id, author_id, content) values ('b0000000-0000-4000-8000-000000000001', :alice, 'hello');

--! changes public.friendships to alice carol
update public.friendships set state = 'accepted' where friend_id = :carol;

select rollcall.use_table('contacts', 'friendships', user_column => 'user_id', other_column => 'friend_id',
  condition => $$state = 'accepted'$$);
select rollcall.use_table('participants', 'public.room_members', group_column => 'room_id', user_column => 'profile_id');
--! online alice bob carol
--! sees alice bob carol
--! hides mallory alice bob carol
--! types bob b0000000-0000-4000-8000-000000000001
--! silent mallory b0000000-0000-4000-8000-000000000001

update public.friendships set state = 'blocked' where friend_id = :bob;
--! hides alice bob
--! sees alice carol

delete from public.profiles where id = :mallory;
insert into public.room_members (room_id, profile_id) values ('b0000000-0000-4000-8000-000000000001', :carol);
--! channel room:kitchen carol rw
--! changes public.messages to alice bob carol
update public.messages set content = 'hello all';
