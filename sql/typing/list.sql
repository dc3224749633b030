-- Users that are typing in a conversation, as far as the caller may see. $1 conversation text.
-- Returns one row per user; one row with nulls where nobody is typing; none where the caller takes no part. An ID that cannot
-- be one raises 22P02 (rollcall.conversation_key).
select t.user_id, t.updated_at
from (select c from rollcall.my_conversation_ids() c where c = rollcall.conversation_key($1)) mine
left join rollcall.typing_indicators t on t.conversation_id = mine.c and t.expires_at > now()
order by t.updated_at
