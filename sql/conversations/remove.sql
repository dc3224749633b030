-- Removes a participant. $1 conversation uuid, $2 user uuid. Returns one row: whether it did, and whether the caller still
-- sees that participant.
with removed as (
  delete from rollcall.conversation_participants p where p.conversation_id = $1 and p.user_id = $2
  returning p.user_id
)
select exists (select from removed) as removed,
  exists (
    select from rollcall.conversation_participants p where p.conversation_id = $1 and p.user_id = $2
  ) as visible
