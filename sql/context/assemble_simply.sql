-- What the simple engine needs. $1 conversation uuid, $2 how many of the last messages int.
-- Returns one row: null where the caller sees no such conversation.
select rollcall.assemble_simple($1, $2) as found
