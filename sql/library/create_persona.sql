-- Stores a persona of the caller. $1 jsonb. Returns one row.
insert into rollcall.personas as t (user_id, name, description)
select auth.uid(),
  $1::jsonb ->> 'name',
  $1::jsonb ->> 'description'
returning jsonb_build_object(
  'id', t.id, 'name', t.name, 'description', t.description, 'createdAt', t.created_at) as found
