-- Stores a notebook of the caller. $1 jsonb. Returns one row.
insert into rollcall.notebooks as t (user_id, title)
select auth.uid(),
  $1::jsonb ->> 'title'
returning jsonb_build_object(
  'id', t.id, 'title', t.title, 'createdAt', t.created_at) as found
