-- Waits for writes that have begun and may not know yet of whoever asks. Returns one empty row.
select rollcall_internal.wait_for_channel_writers()
