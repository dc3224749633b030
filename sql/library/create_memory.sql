-- Stores a memory of the caller. $1 jsonb. Returns one row.
insert into rollcall.memories as t (user_id, content, category, importance, is_active, is_pinned, notebook_id)
select auth.uid(),
  $1::jsonb ->> 'content',
  coalesce($1::jsonb ->> 'category', 'general'),
  coalesce(($1::jsonb ->> 'importance')::real, 0.5),
  coalesce(($1::jsonb ->> 'isActive')::boolean, true),
  coalesce(($1::jsonb ->> 'isPinned')::boolean, false),
  ($1::jsonb ->> 'notebookId')::uuid
returning jsonb_build_object(
  'id', t.id, 'content', t.content, 'category', t.category, 'importance', t.importance,
  'isActive', t.is_active, 'isPinned', t.is_pinned, 'notebookId', t.notebook_id, 'isLearned', t.is_learned,
  'conversationId', t.conversation_id, 'messageId', t.message_id, 'validFrom', t.valid_from,
  'validUntil', t.valid_until, 'supersededBy', t.superseded_by, 'createdAt', t.created_at,
  'updatedAt', t.updated_at) as found
