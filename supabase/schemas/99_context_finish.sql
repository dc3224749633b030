-- Module: context
-- Rights of functions, and what depends on everything before: followed tables and recorded state.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

do $$
begin
  perform rollcall.watch_authorization_sources(), rollcall.watch_visibility_sources();
  perform rollcall_internal.record_triggers();
end
$$;

insert into rollcall_internal.context_access_version (version) values (rollcall.context_access_version());
