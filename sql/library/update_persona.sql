-- Changes a persona of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.personas t set
  name = case when $2::jsonb ? 'name' then $2 ->> 'name' else t.name end,
  description = case when $2::jsonb ? 'description' then $2 ->> 'description' else t.description end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'name', t.name, 'description', t.description, 'createdAt', t.created_at) as found
