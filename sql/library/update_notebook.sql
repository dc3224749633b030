-- Changes a notebook of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.notebooks t set
  title = case when $2::jsonb ? 'title' then $2 ->> 'title' else t.title end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'title', t.title, 'createdAt', t.created_at) as found
