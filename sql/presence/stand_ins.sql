-- Whose rows to read for some users, so that row-level security is evaluated for each: those of the user, or, if there is no
-- row, those of another user. Answers that hide a user then take as long as answers about an unknown one. The server
-- drops what it did not ask for.
-- $1 users uuid[], $2 random ids and $3 callers (or null) uuid[], one for each. Returns one id per user, in order.
-- Uses user_presence_pkey and does the same work whether a user has a row or not. Prefers users who are not visible to
-- everyone, because hidden users are not either.
select coalesce(known.user_id, other.user_id, u.id) as id
from unnest($1::uuid[], $2::uuid[], $3::uuid[]) with ordinality as u (id, random_id, caller, number)
left join lateral (
  select p.user_id from rollcall.user_presence p where p.user_id = u.id limit 1
) known on true
left join lateral (
  select c.user_id
  from (
    (select p.user_id from rollcall.user_presence p
      where p.user_id > u.random_id and p.face = 'trusted' and p.user_id is distinct from u.caller order by p.user_id limit 8)
    union all
    (select p.user_id from rollcall.user_presence p
      where p.user_id <= u.random_id and p.face = 'trusted' and p.user_id is distinct from u.caller
      order by p.user_id desc limit 8)
  ) c
  order by exists (
    select from rollcall.presence_settings s where s.user_id = c.user_id and s.visibility = 'everyone'
  )
  limit 1
) other on true
order by u.number
