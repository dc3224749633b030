-- Takes texts that want a vector. $1 how many at most int. Returns one row a text.
select kind, id, version, content from rollcall_internal.claim_embedding_texts($1)
