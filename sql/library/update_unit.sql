-- Changes a unit of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.atomic_chat_units t set
  content = case when $2::jsonb ? 'content' then $2 ->> 'content' else t.content end,
  unit_type = case when $2::jsonb ? 'unitType' then $2 ->> 'unitType' else t.unit_type end,
  quality = case when $2::jsonb ? 'quality' then ($2 ->> 'quality')::real else t.quality end,
  notebook_id = case when $2::jsonb ? 'notebookId' then ($2 ->> 'notebookId')::uuid else t.notebook_id end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'content', t.content, 'unitType', t.unit_type, 'quality', t.quality, 'notebookId', t.notebook_id,
  'isActive', (t.state = 'active'), 'isLearned', t.is_learned, 'conversationId', t.conversation_id,
  'messageId', t.message_id, 'createdAt', t.created_at) as found
