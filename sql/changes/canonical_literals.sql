-- The literals of a filter in the form of values. $1 type oid, $2 operator text, $3 value text. Returns one row: text[].
select rollcall_internal.canonical_literals($1, $2, $3)
