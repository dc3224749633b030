-- Counts how often prompts used bundles. $1 ids uuid[], $2 hits int[], $3 misses int[], all of one length. Returns one row.
select rollcall_internal.count_bundle_uses($1, $2, $3)
