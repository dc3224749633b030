-- Notifies every node when a policy, a grant, a table or a function changes, in the transaction that changes it.
-- Only a superuser may create an event trigger; on Supabase the role `postgres` may too, and the migration does it.
-- Without them the server compares fingerprints of the policies instead.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch')
    and to_regprocedure('rollcall_internal.on_ddl()') is not null
  then
    create event trigger rollcall_policy_watch on ddl_command_end execute function rollcall_internal.on_ddl();
  end if;
  if not exists (select from pg_event_trigger where evtname = 'rollcall_authorization_watch')
    and to_regprocedure('rollcall_internal.on_authorization_ddl()') is not null
  then
    create event trigger rollcall_authorization_watch on ddl_command_end
      execute function rollcall_internal.on_authorization_ddl();
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create an event trigger: policies are compared by fingerprint instead';
end
$$;
