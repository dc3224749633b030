-- Users that the caller blocks, oldest first. Uses blocks_pkey.
select b.blocked_id, b.created_at from rollcall.blocks b
where b.blocker_id = auth.uid()
order by b.created_at, b.blocked_id
