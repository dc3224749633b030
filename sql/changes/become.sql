-- Makes the connection a subscriber until the next one. $1 role text, $2 claims JSON text, $3 sub text.
-- For the session, not for a transaction: the queries after it are transactions of their own, so that an error or a
-- timeout in one affects no other. The connection queries only as subscribers.
-- The search_path is that of rollcall.role_search_path, which the previous subscriber may not be allowed to call.
select
  set_config('search_path', coalesce((
    select substr(s.entry, length('search_path=') + 1)
    from pg_catalog.pg_db_role_setting d
    cross join lateral pg_catalog.unnest(d.setconfig) as s (entry)
    where d.setrole in (0, coalesce(to_regrole(quote_ident($1))::oid, 0))
      and d.setdatabase in (0, (select b.oid from pg_catalog.pg_database b where b.datname = current_database()))
      and s.entry like 'search\_path=%'
    order by d.setrole = 0, d.setdatabase = 0
    limit 1
  ), '"$user", public, extensions'), false),
  set_config('role', $1, false), set_config('request.jwt.claims', $2, false),
  set_config('request.jwt.claim.sub', $3, false), set_config('request.jwt.claim.role', $1, false)
