-- The audit log, newest first. $1 bigint or null: only rows before this ID; $2 action text or null; $3 user uuid or
-- null; $4 maximum number int. Returns one row for each action.
select a.id, a.at, a.actor, a.role, a.login, a.action, a.user_id, a.target, a.reason, a.request_id
from rollcall.operator_audit a
where ($1::bigint is null or a.id < $1) and ($2::text is null or a.action = $2)
  and ($3::uuid is null or a.user_id = $3)
order by a.id desc
limit $4::int
