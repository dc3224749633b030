-- The caller's memories, newest first. $1 time and $2 id uuid of the last row of the page before, or null;
-- $3 maximum number int; $4 filters jsonb: keys that are absent do not filter. Returns one row each.
select jsonb_build_object(
  'id', t.id, 'content', t.content, 'category', t.category, 'importance', t.importance,
  'isActive', t.is_active, 'isPinned', t.is_pinned, 'notebookId', t.notebook_id, 'isLearned', t.is_learned,
  'conversationId', t.conversation_id, 'messageId', t.message_id, 'validFrom', t.valid_from,
  'validUntil', t.valid_until, 'supersededBy', t.superseded_by, 'createdAt', t.created_at,
  'updatedAt', t.updated_at) as found,
  t.created_at as at, t.id
from rollcall.memories t
where t.user_id = auth.uid()
  and ($1::timestamptz is null or (t.created_at, t.id) < ($1, $2::uuid))
  and ($4::jsonb -> 'active' is null or t.is_active = ($4 ->> 'active')::boolean)
  and ($4::jsonb -> 'category' is null or t.category = $4 ->> 'category')
  and ($4::jsonb -> 'notebookId' is null or t.notebook_id = ($4 ->> 'notebookId')::uuid)
  and ($4::jsonb -> 'conversationId' is null or t.conversation_id = ($4 ->> 'conversationId')::uuid)
  and ($4::jsonb -> 'from' is null or t.created_at >= ($4 ->> 'from')::timestamptz)
  and ($4::jsonb -> 'until' is null or t.created_at < ($4 ->> 'until')::timestamptz)
order by t.created_at desc, t.id desc
limit $3::int
