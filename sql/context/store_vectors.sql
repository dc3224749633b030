-- Stores vectors of texts that are still what they were. $1 kinds text[], $2 ids uuid[], $3 versions bigint[],
-- $4 vectors text[], of one length. Returns one row: how many.
select rollcall_internal.store_vectors($1, $2, $3, $4)
