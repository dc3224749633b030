-- Deletes a block. $1 user uuid. Returns a row if there was one.
delete from rollcall.blocks b where b.blocker_id = auth.uid() and b.blocked_id = $1
returning b.blocked_id
