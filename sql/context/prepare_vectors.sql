-- Makes what finding by meaning needs. $1 the model text, $2 the numbers of its vectors int.
-- Returns one row: false where the database has no pgvector.
select rollcall_internal.prepare_vectors($1, $2)
