-- The time of day on the caller's device. $1 device text or null for the one whose signals are newest.
-- Returns one row, or none without a device.
select d.local_time from rollcall.presence_devices d
where d.user_id = auth.uid() and d.device_id = coalesce($1, d.device_id)
order by d.context_updated_at desc nulls last, d.last_heartbeat_at desc
limit 1
