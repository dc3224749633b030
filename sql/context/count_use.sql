-- Counts what an assembly used and missed. $1 hits uuid[], $2 misses uuid[]. Returns one row.
select rollcall.count_use($1, $2)
