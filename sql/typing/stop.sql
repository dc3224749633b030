-- The caller has stopped typing. $1 conversation uuid. Returns one row: whether the caller takes part in it.
with stopped as (
  delete from rollcall.typing_indicators where conversation_id = $1 and user_id = auth.uid()
)
select $1 in (select rollcall.my_conversations())
