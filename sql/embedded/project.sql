-- Makes a new database of the server's own cluster look like that of a local Supabase project: extensions, search_path
-- and default privileges. Runs once, as part of the bootstrap (see sql/bootstrap), and never in another cluster. Every
-- step is recorded, so that a removal takes it back.
do $$
declare
  v_owner constant name := coalesce(nullif(current_setting('rollcall.owner', true), ''), current_user);
  v_extension text;
  v_kind text;
begin
  if to_regclass('rollcall_internal.installed_objects') is not null then
    return;
  end if;
  if to_regnamespace('extensions') is null then
    execute pg_catalog.format('create schema extensions authorization %I', v_owner);
    grant usage on schema extensions to anon, authenticated, service_role;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('schema', 'extensions', 'drop schema if exists extensions');
  end if;
  for v_extension in
    select a.name from pg_available_extensions a
    where a.name in ('pgcrypto', 'uuid-ossp') and a.installed_version is null order by a.name
  loop
    execute pg_catalog.format('create extension %I schema extensions', v_extension);
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('extension', v_extension, pg_catalog.format('drop extension if exists %I', v_extension));
  end loop;
  execute pg_catalog.format('alter role %I in database %I set search_path = "$user", public, extensions', v_owner,
    current_database());
  insert into pg_temp.rollcall_created (kind, name, undo) values ('setting', 'search_path of ' || v_owner,
    pg_catalog.format('alter role %I in database %I reset search_path', v_owner, current_database()));

  -- As on Supabase, the API roles have all rights on what the owner creates in public; row-level security decides.
  if not (select bool_and(has_schema_privilege(r.rolname, 'public', 'usage')) from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role'))
  then
    grant usage on schema public to anon, authenticated, service_role;
    insert into pg_temp.rollcall_created (kind, name, undo) values ('grant', 'schema public',
      'revoke usage on schema public from anon, authenticated, service_role');
  end if;
  foreach v_kind in array array['tables', 'sequences', 'functions'] loop
    execute pg_catalog.format('alter default privileges for role %I in schema public '
      'grant all on %s to anon, authenticated, service_role', v_owner, v_kind);
    insert into pg_temp.rollcall_created (kind, name, undo) values ('default privileges', v_kind || ' in public',
      pg_catalog.format('alter default privileges for role %I in schema public '
        'revoke all on %s from anon, authenticated, service_role', v_owner, v_kind));
  end loop;
end
$$;
