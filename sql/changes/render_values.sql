-- Values as JSON, in their order. $1 type oid, $2 values text[]. Returns one row: text[].
select rollcall_internal.render_values($1, $2)
