-- The schema `auth` as far as policies and foreign tools rely on it. Does nothing where Supabase's own is there.
-- Invariant: auth.uid(), auth.jwt() and auth.role() read the claims of the current transaction and nothing else.
do $do$
begin
  if to_regclass('auth.users') is not null then
    return;
  end if;

  create schema if not exists auth;
  grant usage on schema auth to anon, authenticated, service_role;

  create table auth.users (
    id uuid primary key default gen_random_uuid(),
    aud text default 'authenticated',
    role text default 'authenticated',
    email text unique,
    phone text unique,
    raw_app_meta_data jsonb not null default '{}',
    raw_user_meta_data jsonb not null default '{}',
    is_anonymous boolean not null default false,
    last_sign_in_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
  );
  comment on table auth.users is 'Accounts. Stands in for Supabase Auth on a plain PostgreSQL.';
  -- No policies: like on Supabase, only the owner and service_role read accounts.
  alter table auth.users enable row level security;
  grant all on auth.users to service_role;

  create function auth.jwt() returns jsonb
    language sql stable
  as $fn$
    select coalesce(
      nullif(current_setting('request.jwt.claim', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
  $fn$;

  -- Without a search_path of their own, like Supabase's: such a function is inlined, and these name no object but pg_catalog's.
  create function auth.uid() returns uuid
    language sql stable
  as $fn$
    select coalesce(
      nullif(current_setting('request.jwt.claim.sub', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
  $fn$;

  create function auth.role() returns text
    language sql stable
  as $fn$
    select coalesce(
      nullif(current_setting('request.jwt.claim.role', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
  $fn$;

  if exists (select from pg_roles where rolname = 'postgres') then
    grant usage on schema auth to postgres;
    grant all on auth.users to postgres with grant option;
  end if;
end
$do$;
