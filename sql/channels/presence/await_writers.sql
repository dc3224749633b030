-- Waits for writes that have begun and may not know yet of whoever asks. Returns one empty row.
select rollcall.await_channel_writers()
