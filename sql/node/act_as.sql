-- Makes the rest of the transaction run as the caller.
-- $1 role text, `none` for the login role; $2 claims JSON text, $3 the longest statement in milliseconds, text.
-- The search_path is the one that the role has in this database, for policies, functions and triggers of users.
-- Guarantee: local to the transaction, so a pooled connection is reset at its end, however it ends.
select
  set_config('search_path', rollcall.role_search_path($1), true),
  set_config('role', $1, true), set_config('request.jwt.claims', $2, true), set_config('statement_timeout', $3, true)
