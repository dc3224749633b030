-- Whom each of some viewers sees, asked of row-level security as that viewer (rollcall_internal.visible_presences).
-- $1 role text[], $2 claims text[], $3 whether about everybody bool[], $4 followed users uuid[] and $5 where each
-- viewer's end int[], $6 users asked about uuid[] and $7 where each viewer's end int[].
-- Returns one row a viewer and candidate (face is null where it is not visible), one with a conversation_id a viewer
-- and somebody who types there, and one with `error` where a policy raised.
select viewer, user_id, related, face::text, status::text, reach::text, last_seen, custom_status, activity, current_page, idle_since,
  version, conversation_id, error
from rollcall_internal.visible_presences($1, $2, $3, $4, $5, $6, $7)
