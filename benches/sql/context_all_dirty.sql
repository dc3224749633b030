-- Every bundle of the user has to be made again. Waits for those that are being stored, which lock in another order.
-- $1 user uuid.
with held as materialized (select pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0)))
update rollcall.context_bundles b set dirty = true from held where b.user_id = $1
