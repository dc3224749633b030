-- Makes the connection a subscriber until the next one. $1 role text, $2 claims JSON text, $3 sub text.
-- For the session, not for a transaction: the questions after it are transactions of their own, so that an error or a
-- time-out in one touches no other. The connection asks nothing else but as some subscriber.
select set_config('role', $1, false), set_config('request.jwt.claims', $2, false), set_config('request.jwt.claim.sub', $3, false),
  set_config('request.jwt.claim.role', $1, false)
