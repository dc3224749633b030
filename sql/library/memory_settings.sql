-- Where the server learns from the caller's messages. Returns at most 1,000 rows.
select jsonb_build_object('conversationId', s.conversation_id, 'learns', s.learns, 'notebookId', s.notebook_id) as found
from rollcall.memory_settings s
where s.user_id = auth.uid()
order by s.conversation_id nulls first
limit 1000
