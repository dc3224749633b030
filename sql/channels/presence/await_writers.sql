-- Waits for writers that began before. Returns one empty row.
select rollcall_internal.wait_for_channel_writers()
