-- Puts a user on the caller's visibility list. $1 user uuid. Returns a row if they were not on it.
insert into rollcall.presence_visibility_list (user_id, viewer_id) values (auth.uid(), $1)
on conflict (user_id, viewer_id) do nothing
returning viewer_id
