-- Takes a user off the caller's visibility list. $1 user uuid. Returns a row if they were on it.
delete from rollcall.presence_visibility_list l where l.user_id = auth.uid() and l.viewer_id = $1
returning l.viewer_id
