-- The API roles that Supabase provides. Creates only what is missing, so it does nothing on Supabase.
-- Invariant: the login role that runs the server can become each of them with `set role`, and nothing else can.
do $$
begin
  if not exists (select from pg_roles where rolname = 'anon') then
    create role anon nologin noinherit;
  end if;
  if not exists (select from pg_roles where rolname = 'authenticated') then
    create role authenticated nologin noinherit;
  end if;
  if not exists (select from pg_roles where rolname = 'service_role') then
    create role service_role nologin noinherit bypassrls;
  end if;
  if not exists (select from pg_roles where rolname = 'authenticator') then
    -- For PostgREST and the like; has no password, so nobody can log in until the operator sets one.
    create role authenticator login noinherit;
    grant anon, authenticated, service_role to authenticator;
  end if;
  if exists (select from pg_roles where rolname = 'postgres' and not rolsuper)
    and not pg_has_role('postgres', 'authenticated', 'member')
  then
    grant anon, authenticated, service_role to postgres with admin option;
  end if;
end
$$;
