-- Makes the connection a subscriber until the next one. $1 role text, $2 claims JSON text, $3 sub text.
-- For the session, not for a transaction: the queries after it are transactions of their own, so that an error or a
-- timeout in one affects no other. The connection queries only as subscribers.
-- Needs the login role, because the previous subscriber may not be allowed to call rollcall.role_search_path.
select
  set_config('search_path', rollcall.role_search_path($1), false),
  set_config('role', $1, false), set_config('request.jwt.claims', $2, false),
  set_config('request.jwt.claim.sub', $3, false), set_config('request.jwt.claim.role', $1, false)
