-- Stores a unit of the caller. $1 jsonb. Returns one row.
insert into rollcall.atomic_chat_units as t (user_id, content, unit_type, quality, notebook_id)
select auth.uid(),
  $1::jsonb ->> 'content',
  coalesce($1::jsonb ->> 'unitType', 'statement'),
  coalesce(($1::jsonb ->> 'quality')::real, 0.5),
  ($1::jsonb ->> 'notebookId')::uuid
returning jsonb_build_object(
  'id', t.id, 'content', t.content, 'unitType', t.unit_type, 'quality', t.quality, 'notebookId', t.notebook_id,
  'isActive', (t.state = 'active'), 'isLearned', t.is_learned, 'conversationId', t.conversation_id,
  'messageId', t.message_id, 'createdAt', t.created_at) as found
