-- Conversations whose bundle is ready. Returns one row per conversation.
select c.id, c.created_by from rollcall.conversations c where c.title like 'Other %' order by c.id
