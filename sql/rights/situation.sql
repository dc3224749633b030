-- How decisions about private channels become outdated. Returns one row:
-- announced bool: an event trigger notifies of changed policies; timed bool: policies read the time.
select
  exists (select from pg_event_trigger where evtname = 'rollcall_authorization_watch' and evtenabled in ('O', 'A')) as announced,
  rollcall_internal.authorization_depends_on_time() as timed
