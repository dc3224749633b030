-- The caller types, or types on. $1 conversation uuid. Returns one row.
-- A conversation in which the caller takes no part, or that does not exist, raises 42501 (policy "participants start typing").
-- The update of updated_at is what others are told of: at most every two seconds.
insert into rollcall.typing_indicators as t (conversation_id, user_id)
values ($1, auth.uid())
on conflict (conversation_id, user_id) do update set
  expires_at = now() + interval '5 seconds',
  updated_at = case when t.updated_at < now() - interval '2 seconds' then now() else t.updated_at end
returning true
