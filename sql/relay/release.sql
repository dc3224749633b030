-- Ends the claim or the lease of a node. $1 node uuid. Returns one row.
select rollcall_internal.release_relay($1)
