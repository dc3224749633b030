-- Module: presence
-- Rights of functions, and what depends on everything before: personal data, the event trigger and followed tables.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence', 'user_id', true, null, 'exists while its channel is open'),
  ('rollcall_internal.event_members', 'user_id', false, null, 'exists while its channel is open'),
  ('rollcall_internal.event_queue', 'user_id', false, 91, 'repeats presence for back ends, for a moment'),
  ('rollcall_internal.events', 'user_id', false, 92, 'repeats presence for back ends, for event_settings.max_age'),
  ('rollcall_internal.dead_letters', 'user_id', false, 93, 'repeats presence for back ends, for 30 days');

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
