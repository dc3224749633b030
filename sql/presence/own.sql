-- A user's trusted face, for the server's own eyes. $1 user uuid. Returns at most one row. Uses user_presence_pkey.
select user_id, face::text, status::text, reach::text, last_seen, custom_status, activity, current_page, idle_since, version
from rollcall.user_presence
where user_id = $1 and face = 'trusted'
