-- The schema `realtime` and the publication that Supabase Realtime clients expect. Creates only what is missing.
-- Invariant: the owner of Rollcall can add tables to the publication and objects to the schema.
do $$
declare
  v_owner constant name := coalesce(nullif(current_setting('rollcall.owner', true), ''), current_user);
begin
  if to_regnamespace('realtime') is null then
    create schema realtime;
    grant usage on schema realtime to anon, authenticated, service_role;
    if current_user <> v_owner then
      execute pg_catalog.format('grant all on schema realtime to %I', v_owner);
    end if;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('schema', 'realtime', 'drop schema if exists realtime');
  end if;

  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
    if current_user <> v_owner then
      execute pg_catalog.format('alter publication supabase_realtime owner to %I', v_owner);
    end if;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('publication', 'supabase_realtime', 'drop publication if exists supabase_realtime');
  end if;
end
$$;
