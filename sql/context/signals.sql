-- What a warm-up of the caller is guessed from. $1 device text or null, $2 the local hour int or null.
-- Returns one row: null without a device.
select rollcall.context_signals($1, $2) as found
