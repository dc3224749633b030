-- Changes an instruction of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.custom_instructions t set
  content = case when $2::jsonb ? 'content' then $2 ->> 'content' else t.content end,
  priority = case when $2::jsonb ? 'priority' then ($2 ->> 'priority')::int else t.priority end,
  is_active = case when $2::jsonb ? 'isActive' then ($2 ->> 'isActive')::boolean else t.is_active end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'content', t.content, 'topicId', t.topic_id, 'priority', t.priority, 'isActive', t.is_active,
  'createdAt', t.created_at, 'updatedAt', t.updated_at) as found
