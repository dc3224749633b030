-- The API roles and the owner of Rollcall use schemas that existed before. Grants only what is missing, and where the
-- installing role may grant it; the check before the installation reports the rest.
do $$
declare
  v_owner constant name := coalesce(nullif(current_setting('rollcall.owner', true), ''), current_user);
  v_grant record;
begin
  for v_grant in
    select n.nspname as schema, r.rolname as role
    from pg_namespace n
    join pg_roles r on r.rolname in ('anon', 'authenticated', 'service_role', v_owner)
    where n.nspname in ('auth', 'realtime', 'extensions') and not has_schema_privilege(r.oid, n.oid, 'usage')
      and has_schema_privilege(n.oid, 'usage with grant option')
    order by n.nspname, r.rolname
  loop
    execute pg_catalog.format('grant usage on schema %I to %I', v_grant.schema, v_grant.role);
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('grant', pg_catalog.format('usage on schema %s to %s', v_grant.schema, v_grant.role),
        pg_catalog.format('revoke usage on schema %I from %I', v_grant.schema, v_grant.role));
  end loop;
end
$$;
