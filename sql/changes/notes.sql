-- What of a table's changes will never come to a role, and why. $1 relation oid, $2 role text. One row a note: text.
select rollcall_internal.change_notes($1, $2)
