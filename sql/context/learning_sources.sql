-- What is needed to learn from messages, as the caller. $1 message ids uuid[]. Returns one row.
select rollcall.learning_sources($1) as found
