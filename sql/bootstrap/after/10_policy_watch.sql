-- Tells every node when a policy, a grant, a table or a function changes, in the transaction that changes it.
-- Only a superuser may create an event trigger (on Supabase the role `postgres` may too, and the migrations do it).
-- Without it the server compares a fingerprint of the policies in every read instead.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch') then
    create event trigger rollcall_policy_watch on ddl_command_end
      execute function rollcall.on_ddl();
  end if;
end
$$;
