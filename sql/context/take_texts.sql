-- Claims texts that need an embedding. $1 maximum number int. Returns one row per text.
select kind, id, version, content from rollcall_internal.claim_embedding_texts($1)
