-- Takes what is due from the queue of background work. $1 how many at most int. Returns one row an action.
select id, user_id, kind, bundle_type::text, ref, attempts from rollcall_internal.claim_actions($1)
