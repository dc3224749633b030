-- Messages of a conversation that the caller sees, newest first. $1 time and $2 id uuid of the last row of the page
-- before, or null; $3 maximum number int; $4 id of the conversation as jsonb. Returns one row each.
-- Question and answer have the same time; if the last row is deleted meanwhile, the page goes on before its time.
select jsonb_build_object(
  'id', t.id, 'conversationId', t.conversation_id, 'userId', t.user_id, 'role', t.role, 'content', t.content,
  'state', t.state, 'replyTo', t.reply_to, 'createdAt', t.created_at) as found,
  t.created_at as at, t.id
from rollcall.messages t
where t.conversation_id = ($4::jsonb #>> '{}')::uuid and t.state in ('complete', 'partial')
  and ($1::timestamptz is null or case
    when exists (select from rollcall.messages c where c.id = $2::uuid)
      then t.message_index < (select c.message_index from rollcall.messages c where c.id = $2)
    else t.created_at < $1 end)
order by t.message_index desc
limit $3::int
