-- Tells every node when a policy, a grant, a table or a function changes that may decide who may use a private channel.
-- Only a superuser may create an event trigger (on Supabase the role `postgres` may too, and the migrations do it).
-- Without it the server compares a fingerprint of the policies every second while private channels are open.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_rights_watch') then
    create event trigger rollcall_rights_watch on ddl_command_end
      execute function rollcall.on_rights_ddl();
  end if;
end
$$;
