-- The schema `auth` as far as policies and other tools rely on it. Does nothing on Supabase.
-- Invariant: auth.uid(), auth.jwt() and auth.role() read the claims of the current transaction and nothing else.
do $do$
declare
  v_owner constant name := coalesce(nullif(current_setting('rollcall.owner', true), ''), current_user);
  v_function text;
  v_is_ours boolean := false;
begin
  if to_regnamespace('auth') is null then
    create schema auth;
    grant usage on schema auth to anon, authenticated, service_role;
    if current_user <> v_owner then
      execute pg_catalog.format('grant usage on schema auth to %I', v_owner);
    end if;
    insert into pg_temp.rollcall_created (kind, name, undo) values ('schema', 'auth', 'drop schema if exists auth');
    v_is_ours := true;
  elsif to_regclass('rollcall_internal.installed_objects') is not null then
    execute $$select exists (select from rollcall_internal.installed_objects where kind = 'schema' and name = 'auth')$$
      into v_is_ours;
  end if;

  -- Channels alone need no accounts.
  if v_is_ours and to_regclass('auth.users') is null
    and current_setting('rollcall.modules', true) is distinct from 'channels'
  then
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
    comment on table auth.users is 'Accounts. Stands in for Supabase Auth on plain PostgreSQL.';
    -- No policies: as on Supabase, only the owner and service_role read accounts.
    alter table auth.users enable row level security;
    create policy "service_role has full access" on auth.users for all to service_role using (true) with check (true);
    grant all on auth.users to service_role;
    if current_user <> v_owner then
      execute pg_catalog.format('grant all on auth.users to %I with grant option', v_owner);
    end if;
    insert into pg_temp.rollcall_created (kind, name, undo) values
      ('table', 'auth.users', 'drop table if exists auth.users');
  end if;

  -- Without a search_path of their own, as on Supabase: such functions are inlined, and they name only pg_catalog objects.
  foreach v_function in array array['auth.jwt()', 'auth.uid()', 'auth.role()', 'auth.email()'] loop
    continue when to_regprocedure(v_function) is not null;
    case v_function
      when 'auth.jwt()' then
        create function auth.jwt() returns jsonb
          language sql stable
        as $fn$
          select coalesce(
            nullif(current_setting('request.jwt.claim', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')
          )::jsonb
        $fn$;
      when 'auth.uid()' then
        create function auth.uid() returns uuid
          language sql stable
        as $fn$
          select coalesce(
            nullif(current_setting('request.jwt.claim.sub', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
          )::uuid
        $fn$;
      when 'auth.role()' then
        create function auth.role() returns text
          language sql stable
        as $fn$
          select coalesce(
            nullif(current_setting('request.jwt.claim.role', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
          )
        $fn$;
      else
        create function auth.email() returns text
          language sql stable
        as $fn$
          select coalesce(
            nullif(current_setting('request.jwt.claim.email', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
          )
        $fn$;
    end case;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('function', v_function, pg_catalog.format('drop function if exists %s', v_function));
  end loop;
end
$do$;
