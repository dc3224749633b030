-- What kind of database this is. One row:
-- role name: the current role; database name; major int: the version; is_superuser bool;
-- is_supabase bool: Supabase's services have their roles here, so Supabase provides what the bootstrap creates.
select
  current_user::text as role,
  current_database()::text as database,
  current_setting('server_version_num')::int / 10000 as major,
  (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
  exists (select from pg_roles where rolname = 'supabase_auth_admin') as is_supabase
