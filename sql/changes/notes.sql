-- Which changes of a table a role never receives, and why. $1 relation oid, $2 role text. One row per note: text.
select rollcall_internal.change_notes($1, $2)
