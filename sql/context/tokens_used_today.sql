-- Tokens that models used for a user since midnight UTC. $1 uuid. Returns one row.
select rollcall_internal.tokens_used_today($1) as tokens
