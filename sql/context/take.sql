-- Claims due actions of the background queue. $1 maximum number int. Returns one row per action.
select id, user_id, kind, bundle_type::text, ref, attempts from rollcall_internal.claim_actions($1)
