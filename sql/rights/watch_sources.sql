-- Watches every table that a policy on realtime.messages mentions and that is not watched yet. One row a table newly watched.
select rollcall.watch_authorization_sources()::text
