-- The role `postgres` of the server's own cluster, with the powers that it has on Supabase: no superuser, but
-- it may make databases and roles, replicate, and see past row-level security. Run by the superuser at each
-- start; creates only what is missing. Reads the setting rollcall.password (see set_password.sql).
do $$
begin
  if not exists (select from pg_roles where rolname = 'postgres') then
    execute format(
      'create role postgres login nosuperuser createdb createrole replication bypassrls password %L',
      current_setting('rollcall.password')
    );
    grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
    grant all on database postgres to postgres with grant option;
    alter schema public owner to postgres;
  end if;
end
$$;
