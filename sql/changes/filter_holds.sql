-- Which values match a filter, in their order.
-- $1 type oid, $2 operator text, $3 negated bool, $4 value text, $5 values text[]. Returns one row: boolean[].
select rollcall_internal.filter_matches($1, $2, $3, $4, $5)
