-- Marks bundles of the caller as dirty. $1 event text, $2 types text[], then related ids or null: $3 topic, $4 entity,
-- $5 conversation, $6 memory, $7 instruction. Returns one row: how many.
select rollcall.invalidate_mine($1, $2::text[]::rollcall.bundle_type[], $3, $4, $5, $6, $7)
