-- Marks all bundles of the user stale. Waits for bundles being stored, which lock rows in another order.
-- $1 user uuid.
with held as materialized (select pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0)))
update rollcall.context_bundles b set dirty = true from held where b.user_id = $1
