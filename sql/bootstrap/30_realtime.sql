-- The schema `realtime` and the publication that Supabase Realtime clients expect. Creates only what is missing.
-- Invariant: the owner of the migrations can add tables to the publication and objects to the schema.
do $$
begin
  if to_regnamespace('realtime') is null then
    create schema realtime;
    grant usage on schema realtime to anon, authenticated, service_role;
    if exists (select from pg_roles where rolname = 'postgres') then
      grant all on schema realtime to postgres;
    end if;
  end if;

  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
    if exists (select from pg_roles where rolname = 'postgres') then
      alter publication supabase_realtime owner to postgres;
    end if;
  end if;
end
$$;
