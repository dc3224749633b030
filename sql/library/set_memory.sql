-- Sets where the server learns from the caller's messages. $1 jsonb: conversationId, learns, notebookId. Returns one row.
insert into rollcall.memory_settings as s (user_id, conversation_id, learns, notebook_id)
select auth.uid(), ($1::jsonb ->> 'conversationId')::uuid, ($1 ->> 'learns')::boolean, ($1 ->> 'notebookId')::uuid
on conflict (user_id, conversation_id) do update set learns = excluded.learns, notebook_id = excluded.notebook_id
returning jsonb_build_object('conversationId', s.conversation_id, 'learns', s.learns, 'notebookId', s.notebook_id) as found
