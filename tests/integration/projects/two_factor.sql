-- A bank: restrictive policies that require a second factor, and a session list that is checked on each request.
--! on supabase
--! users alice bob

create schema if not exists app_private;
create table public.accounts (id uuid primary key default gen_random_uuid(), holder uuid not null, balance bigint not null default 0);
create table public.sessions (id uuid primary key, user_id uuid not null, revoked boolean not null default false);
create table public.trusted_contacts (owner uuid, trusted uuid, verified_until date, primary key (owner, trusted));
create index on public.trusted_contacts (trusted);
create function public.has_second_factor() returns boolean
  language sql stable
as $$ select coalesce(auth.jwt() ->> 'aal' = 'aal2', false) $$;
create function public.session_is_valid() returns boolean
  language plpgsql stable security definer set search_path = public
as $$
begin
  return not exists (select 1 from sessions where id = (auth.jwt() ->> 'session_id')::uuid and revoked);
end
$$;
alter table public.accounts enable row level security;
alter table public.accounts force row level security;
alter table public.sessions enable row level security;
alter table public.trusted_contacts enable row level security;
create policy holders on public.accounts for select to authenticated using (holder = auth.uid());
create policy owner_of_database on public.accounts for all to postgres using (true);
create policy second_factor on public.accounts as restrictive for all to authenticated using (has_second_factor());
create policy valid_session on public.accounts as restrictive for all to authenticated using ((select session_is_valid()));
create policy trust on public.trusted_contacts for select to authenticated using (auth.uid() in (owner, trusted));
create policy own_channel on realtime.messages for all to authenticated
  using (realtime.topic() = 'account:' || auth.uid()) with check (realtime.topic() = 'account:' || auth.uid());
create policy second_factor on realtime.messages as restrictive for all to authenticated
  using (has_second_factor()) with check (has_second_factor() and session_is_valid());
alter publication supabase_realtime add table public.accounts;
insert into public.accounts (holder, balance) values (:alice, 10), (:bob, 20);
insert into public.sessions values ('d0000000-0000-4000-8000-000000000001', :alice), ('d0000000-0000-4000-8000-000000000002', :bob);
insert into public.trusted_contacts values (:alice, :bob, '2100-01-01');

--! install
--! channel account:a0000000-0000-4000-8000-000000000001 alice none
--! claims alice {"aal": "aal2", "session_id": "d0000000-0000-4000-8000-000000000001", "amr": [{"method": "totp"}]}
--! claims bob {"aal": "aal1", "session_id": "d0000000-0000-4000-8000-000000000002"}
--! channel account:a0000000-0000-4000-8000-000000000001 alice rw
--! channel account:a0000000-0000-4000-8000-000000000002 alice none
--! channel account:a0000000-0000-4000-8000-000000000002 bob none

--! changes public.accounts to alice
update public.accounts set balance = balance + 1;

update public.sessions set revoked = true where user_id = :alice;
--! channel account:a0000000-0000-4000-8000-000000000001 alice r
--! changes public.accounts to
update public.accounts set balance = balance + 1;

select rollcall.use_table('contacts', 'trusted_contacts', user_column => 'owner', other_column => 'trusted',
  condition => $$verified_until > date '2026-01-01'$$);
--! online alice bob
--! sees alice bob
create policy second_factor on rollcall.user_presence as restrictive for select to authenticated using (public.has_second_factor());
--! sees alice bob
--! hides bob alice
