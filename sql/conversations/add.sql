-- Adds participants. $1 conversation uuid, $2 users uuid[]. Returns a row for each who was not one.
insert into rollcall.conversation_participants (conversation_id, user_id)
select $1::uuid, u.id from (select distinct pg_catalog.unnest($2::uuid[])) u (id)
order by u.id
on conflict (conversation_id, user_id) do nothing
returning user_id
