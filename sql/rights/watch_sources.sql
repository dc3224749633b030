-- Follows every table that policies on realtime.messages depend on. One row per table that was added.
select rollcall.watch_authorization_sources()::text
