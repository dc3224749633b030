-- What predictions for the caller are based on. $1 device text or null, $2 local hour int or null.
-- Returns one row: null without a device.
select rollcall.context_signals($1, $2) as found
