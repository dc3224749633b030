-- Watches every table that a policy mentions and that is not watched yet. Returns one row a table newly watched.
select rollcall.watch_visibility_sources()::text
