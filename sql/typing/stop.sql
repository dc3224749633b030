-- The caller has stopped typing. $1 conversation text. Returns one row: whether the caller takes part in it. An ID that cannot
-- be one raises 22P02 (rollcall.conversation_key).
with conversation as materialized (
  select rollcall.conversation_key($1) as key
),
stopped as (
  delete from rollcall.typing_indicators t using conversation c where t.conversation_id = c.key and t.user_id = auth.uid()
)
select c.key in (select rollcall.my_conversation_ids()) from conversation c
