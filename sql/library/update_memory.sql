-- Changes a memory of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.memories t set
  content = case when $2::jsonb ? 'content' then $2 ->> 'content' else t.content end,
  category = case when $2::jsonb ? 'category' then $2 ->> 'category' else t.category end,
  importance = case when $2::jsonb ? 'importance' then ($2 ->> 'importance')::real else t.importance end,
  is_active = case when $2::jsonb ? 'isActive' then ($2 ->> 'isActive')::boolean else t.is_active end,
  is_pinned = case when $2::jsonb ? 'isPinned' then ($2 ->> 'isPinned')::boolean else t.is_pinned end,
  notebook_id = case when $2::jsonb ? 'notebookId' then ($2 ->> 'notebookId')::uuid else t.notebook_id end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'content', t.content, 'category', t.category, 'importance', t.importance,
  'isActive', t.is_active, 'isPinned', t.is_pinned, 'notebookId', t.notebook_id, 'isLearned', t.is_learned,
  'conversationId', t.conversation_id, 'messageId', t.message_id, 'validFrom', t.valid_from,
  'validUntil', t.valid_until, 'supersededBy', t.superseded_by, 'createdAt', t.created_at,
  'updatedAt', t.updated_at) as found
