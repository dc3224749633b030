-- Software for organisations: helpers in a private schema with an empty search_path, roles in claims, invitations, and
-- privileges that are taken from everybody by default.
--! on supabase
--! users owner member guest outsider

alter default privileges for role postgres revoke execute on functions from public;
alter default privileges for role postgres in schema public revoke execute on functions from anon, authenticated;
alter default privileges for role postgres in schema public revoke all on tables from anon, authenticated;
create schema private;
create type public.app_role as enum ('owner', 'admin', 'member', 'guest');
create type public.app_permission as enum ('channels.read', 'channels.write', 'billing');
create table public.organisations (id uuid primary key, name text not null, settings jsonb not null default '{}');
create table public.teams (id uuid primary key, organisation_id uuid not null references public.organisations on delete cascade, name text);
create table public.team_members (
  team_id uuid references public.teams on delete cascade, user_id uuid not null, role public.app_role not null default 'member',
  invited_at timestamptz not null default now(), accepted_at timestamptz, primary key (team_id, user_id)
);
create index on public.team_members (user_id);
create table public.role_permissions (role public.app_role, permission public.app_permission, primary key (role, permission));
create table public.documents (id bigint primary key, team_id uuid references public.teams, title text, body jsonb);

create function private.team_role(team uuid) returns public.app_role
  language sql stable security definer set search_path = ''
as $$
  select m.role from public.team_members m
  where m.team_id = team and m.user_id = (select auth.uid()) and m.accepted_at is not null
$$;
create function private.authorize(team uuid, wanted public.app_permission) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  claimed text := auth.jwt() -> 'app_metadata' ->> 'global_role';
begin
  return claimed = 'staff' or exists (
    select 1 from public.role_permissions p where p.role = private.team_role(team) and p.permission = wanted);
end
$$;
create function private.topic_team() returns uuid
  language sql stable set search_path = ''
as $$
  select case when realtime.topic() ~ '^team:[0-9a-f-]{36}$' then substr(realtime.topic(), 6)::uuid end
$$;
grant usage on schema private to authenticated;
grant execute on all functions in schema private to authenticated;
grant select on public.organisations, public.teams, public.team_members, public.documents to authenticated;

alter table public.organisations enable row level security;
alter table public.teams enable row level security;
alter table public.team_members enable row level security;
alter table public.role_permissions enable row level security;
alter table public.documents enable row level security;
create policy teams_read on public.teams for select to authenticated using ((select private.team_role(id)) is not null);
create policy members_read on public.team_members for select to authenticated
  using (user_id = (select auth.uid()) or (select private.team_role(team_id)) in ('owner', 'admin'));
create policy documents_read on public.documents for select to authenticated
  using ((select private.authorize(team_id, 'channels.read')));
create policy team_listen on realtime.messages for select to authenticated
  using ((select private.authorize((select private.topic_team()), 'channels.read')));
create policy team_send on realtime.messages for insert to authenticated
  with check ((select private.authorize((select private.topic_team()), 'channels.write')));
alter publication supabase_realtime add table public.documents, public.team_members;

insert into public.role_permissions values ('owner', 'channels.read'), ('owner', 'channels.write'),
  ('member', 'channels.read'), ('member', 'channels.write'), ('guest', 'channels.read');
insert into public.organisations values ('c0000000-0000-4000-8000-000000000001', 'Acme');
insert into public.teams values ('c0000000-0000-4000-8000-000000000002', 'c0000000-0000-4000-8000-000000000001', 'Core');
insert into public.team_members (team_id, user_id, role, accepted_at) values
  ('c0000000-0000-4000-8000-000000000002', :owner, 'owner', now()),
  ('c0000000-0000-4000-8000-000000000002', :member, 'member', null),
  ('c0000000-0000-4000-8000-000000000002', :guest, 'guest', now());

--! install
--! channel team:c0000000-0000-4000-8000-000000000002 owner rw
--! channel team:c0000000-0000-4000-8000-000000000002 guest r
--! channel team:c0000000-0000-4000-8000-000000000002 member none
--! channel team:c0000000-0000-4000-8000-000000000002 outsider none
--! claims outsider {"app_metadata": {"global_role": "staff"}}
--! channel team:c0000000-0000-4000-8000-000000000002 outsider rw
--! channel anything outsider rw
--! claims outsider {}

--! changes public.documents to owner guest
insert into public.documents values (1, 'c0000000-0000-4000-8000-000000000002', 'Plan', '{"pages": 2}');

--! changes public.team_members to owner member
update public.team_members set accepted_at = now() where user_id = :member;

--! channel team:c0000000-0000-4000-8000-000000000002 member rw

select rollcall.use_table('team_members', 'public.team_members', group_column => 'team_id', user_column => 'user_id',
  condition => $$accepted_at is not null and role <> 'guest'$$);
insert into rollcall.presence_settings (user_id, visibility) values (:owner, 'team'), (:member, 'team'), (:guest, 'team');
--! online owner member guest
--! sees owner member
--! sees member owner
--! hides guest owner member
--! hides owner guest
--! hides outsider owner member guest

update public.team_members set role = 'guest' where user_id = :member;
--! hides owner member
