insert into rollcall.blocks (blocker_id, blocked_id) values ($1, $2)
