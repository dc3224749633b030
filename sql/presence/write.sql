-- Applies a batch of presence writes, at most one a user.
-- $1 kind text[], $2 user uuid[], $3 device text[], $4 node uuid[], $5 age in seconds float8[], $6 active bool[],
-- $7 status presence_status[], $8 set custom status bool[], $9 custom status text[], $10 its expiry timestamptz[],
-- $11 activity text[], $12 page text[], $13 seconds in the background int[]; all of one length.
-- Returns the trusted face of each user, at most one row a user, in no order.
select user_id, face::text, status::text, reach::text, last_seen, custom_status, activity, current_page, idle_since, version
from rollcall_internal.write_presence($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
