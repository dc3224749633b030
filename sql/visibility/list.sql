-- Who is on the caller's visibility list. Returns their ids, in order of entry. Uses presence_visibility_list_pkey.
select l.viewer_id from rollcall.presence_visibility_list l
where l.user_id = auth.uid()
order by l.created_at, l.viewer_id
