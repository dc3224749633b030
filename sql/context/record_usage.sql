-- Records one call to a model. $1 user uuid, $2 purpose, $3 provider, $4 model text, $5 prompt and $6 completion tokens bigint,
-- $7 cost text or null.
select rollcall_internal.record_model_usage($1, $2, $3, $4, $5, $6, $7::text::numeric)
