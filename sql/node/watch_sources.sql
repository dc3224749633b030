-- Follows every table that visibility depends on. Returns one row per table that was added.
select rollcall.watch_visibility_sources()::text
