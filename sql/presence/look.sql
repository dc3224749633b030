-- What each of some viewers sees, evaluated by row-level security as that viewer (rollcall_internal.visible_presences).
-- $1 role text[], $2 claims text[], $3 whether to include all users bool[], $4 followed users uuid[] and $5 the end of each
-- viewer's list int[], $6 users to include uuid[] and $7 the end of each viewer's list int[].
-- Returns one row per viewer and candidate (face is null where it is not visible), one with a conversation_id per viewer and
-- typing user, and one with `error` where a policy raised. The error `later` means that this viewer and those after it were
-- not queried.
select viewer, user_id, related, face::text, status::text, reach::text, last_seen, custom_status, activity, current_page, idle_since,
  version, conversation_id, id_is_number, error
from rollcall_internal.visible_presences($1, $2, $3, $4, $5, $6, $7)
