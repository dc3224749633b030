-- Whether an event trigger notifies of changed policies. Returns one row.
select exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch' and evtenabled in ('O', 'A'))
