-- The API roles of Supabase. Creates only what is missing, so it does nothing on Supabase.
-- Invariant: the login role of the server can become each of them with `set role`.
do $$
declare
  v_owner constant name := coalesce(nullif(current_setting('rollcall.owner', true), ''), current_user);
  v_role name;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'authenticator']::name[] loop
    continue when exists (select from pg_roles where rolname = v_role);
    if v_role = 'service_role' then
      begin
        create role service_role nologin noinherit bypassrls;
      exception when insufficient_privilege then
        -- Policies for service_role on every table of Rollcall stand in for BYPASSRLS.
        create role service_role nologin noinherit;
      end;
    elsif v_role = 'authenticator' then
      -- For PostgREST and similar servers. It has no password, so it cannot log in until the operator sets one.
      create role authenticator login noinherit;
    else
      execute pg_catalog.format('create role %I nologin noinherit', v_role);
    end if;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('role', v_role, pg_catalog.format('drop role if exists %I', v_role));
  end loop;

  if exists (select from pg_temp.rollcall_created c where c.kind = 'role' and c.name = 'authenticator') then
    foreach v_role in array array['anon', 'authenticated', 'service_role']::name[] loop
      begin
        execute pg_catalog.format('grant %I to authenticator', v_role);
      exception when insufficient_privilege then
        -- Since PostgreSQL 16, for a role that somebody else created. Rollcall works without it.
        raise notice 'authenticator cannot become %', v_role
          using hint = pg_catalog.format('For PostgREST, run as a superuser: grant %I to authenticator;', v_role);
      end;
    end loop;
  end if;

  foreach v_role in array array['anon', 'authenticated', 'service_role']::name[] loop
    -- Since PostgreSQL 16 a member may be without the right to `set role`.
    continue when pg_has_role(v_owner, v_role,
      case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end);
    execute pg_catalog.format('grant %I to %I%s', v_role, v_owner,
      case when current_user <> v_owner then ' with admin option' else '' end);
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('grant', v_role || ' to ' || v_owner, pg_catalog.format('revoke %I from %I', v_role, v_owner));
  end loop;
end
$$;
