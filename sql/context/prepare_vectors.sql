-- Creates what search by meaning needs. $1 model text, $2 number of dimensions int.
-- Returns one row: false where the database has no pgvector.
select rollcall_internal.prepare_vectors($1, $2)
