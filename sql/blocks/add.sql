-- Blocks a user. $1 user uuid. Returns a row if the user was not blocked.
insert into rollcall.blocks (blocker_id, blocked_id) values (auth.uid(), $1)
on conflict (blocker_id, blocked_id) do nothing
returning blocked_id
