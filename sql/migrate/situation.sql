-- What kind of database this is. One row:
-- role name: who we are; major int; is_superuser bool;
-- is_supabase bool: Supabase's own services have their roles here, so it looks after what the bootstrap would make;
-- missing text[]: what the bootstrap would make and is not here.
select
  current_user::text as role,
  current_setting('server_version_num')::int / 10000 as major,
  (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
  exists (select from pg_roles where rolname = 'supabase_auth_admin') as is_supabase,
  array(
    select 'the role ' || wanted
    from unnest(array['anon', 'authenticated', 'service_role']) as wanted
    where not exists (select from pg_roles where rolname = wanted)
    union all
    select 'the table ' || wanted
    from unnest(array['auth.users', 'realtime.messages']) as wanted
    where to_regclass(wanted) is null
  ) as missing
