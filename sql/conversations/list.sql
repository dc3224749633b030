-- Conversations that the caller takes part in or created. $1 only this one uuid, or null for all.
-- Returns one row per conversation, newest first. Uses conversation_participants_pkey.
select c.id, c.title, c.created_by, c.created_at,
  array(
    select p.user_id from rollcall.conversation_participants p where p.conversation_id = c.id order by p.joined_at, p.user_id
  ) as participant_ids
from rollcall.conversations c
where c.id = coalesce($1::uuid, c.id)
  -- Also for a role that sees all of them.
  and ($1 is not null or c.created_by = auth.uid() or c.id in (select rollcall.my_conversations()))
order by c.created_at desc, c.id
