-- One user as the caller may see them, with the number of live devices: those that the caller may see, or one where the face
-- is not offline. $1 user uuid. Returns at most one row; a role that sees both faces gets the trusted one. Uses
-- user_presence_pkey and presence_devices_live.
select p.status::text, p.custom_status, p.last_seen,
  greatest(
    (select count(*) from rollcall.presence_devices d where d.user_id = p.user_id and d.status <> 'offline'),
    (p.reach <> 'offline')::int
  ) as devices_online
from rollcall.user_presence p
where p.user_id = $1
order by p.face desc
limit 1
