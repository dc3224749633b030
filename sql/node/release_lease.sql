-- Gives a node's lease up. $1 node uuid, $2 grace in seconds float8: how long its devices may take to turn up on
-- another node; where there is no other, they go offline at once.
select rollcall_internal.release_lease($1, $2 * interval '1 second')
