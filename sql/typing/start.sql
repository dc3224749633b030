-- The caller types, or types on. $1 conversation text, $2 whether the caller gave it as a number bool or null. Returns no row
-- for a refresh that is left out (rollcall_internal.limit_typing_writes).
-- A conversation in which the caller takes no part, or that does not exist, raises 42501 (policy "participants start typing");
-- an ID that cannot be one raises 22P02 (rollcall.conversation_key).
-- The update of updated_at is what others are told of: at most every two seconds.
insert into rollcall.typing_indicators as t (conversation_id, user_id, id_is_number)
values ($1, auth.uid(), $2)
on conflict (conversation_id, user_id) do update set
  expires_at = now() + interval '5 seconds',
  updated_at = case when t.updated_at < now() - interval '2 seconds' then now() else t.updated_at end,
  id_is_number = excluded.id_is_number
returning true
