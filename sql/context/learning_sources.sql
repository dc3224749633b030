-- What is needed to learn from messages, as the caller. $1 message ids uuid[], $2 whether facts are learned, which may correct
-- memories, boolean. Returns one row.
select rollcall.learning_sources($1, $2) as found
