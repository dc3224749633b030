-- The caller's units, newest first. $1 time and $2 id uuid of the last row of the page before, or null;
-- $3 maximum number int; $4 filters jsonb: keys that are absent do not filter. Returns one row each.
select jsonb_build_object(
  'id', t.id, 'content', t.content, 'unitType', t.unit_type, 'quality', t.quality, 'notebookId', t.notebook_id,
  'isActive', (t.state = 'active'), 'isLearned', t.is_learned, 'conversationId', t.conversation_id,
  'messageId', t.message_id, 'createdAt', t.created_at) as found,
  t.created_at as at, t.id
from rollcall.atomic_chat_units t
where t.user_id = auth.uid()
  and ($1::timestamptz is null or (t.created_at, t.id) < ($1, $2::uuid))
  and ($4::jsonb -> 'notebookId' is null or t.notebook_id = ($4 ->> 'notebookId')::uuid)
  and ($4::jsonb -> 'conversationId' is null or t.conversation_id = ($4 ->> 'conversationId')::uuid)
  and ($4::jsonb -> 'from' is null or t.created_at >= ($4 ->> 'from')::timestamptz)
  and ($4::jsonb -> 'until' is null or t.created_at < ($4 ->> 'until')::timestamptz)
order by t.created_at desc, t.id desc
limit $3::int
