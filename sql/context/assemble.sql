-- Everything that the prompt for one message needs, as the caller may see it, in one snapshot.
-- $1 conversation uuid, $2 message text, $3 how many of the last messages int, $4 the message's vector text or null.
-- Returns one row: null where the caller sees no such conversation.
select rollcall.assemble($1, $2, $3, $4) as found
