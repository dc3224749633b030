-- Module: presence
-- Rights of functions, and what depends on everything before: personal data, the event trigger and followed tables.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence', 'user_id', true, null, 'exists while its channel is open');

-- Without the right to create event triggers, servers compare fingerprints of the policies instead.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch') then
    create event trigger rollcall_policy_watch on ddl_command_end execute function rollcall_internal.on_ddl();
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create an event trigger: policies are compared by fingerprint instead';
end
$$;

do $$
begin
  perform rollcall.watch_authorization_sources(), rollcall.watch_visibility_sources();
  perform rollcall_internal.record_triggers();
end
$$;
