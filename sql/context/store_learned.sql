-- Stores what was learned. $1 user uuid, $2 lease uuid, $3 queue entries bigint[], $4 message ids uuid[], $5 jsonb. Returns stored,
-- lost or busy.
select rollcall_internal.store_learned($1, $2, $3, $4, $5) as outcome
