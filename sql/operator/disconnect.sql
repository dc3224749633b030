-- Closes the sockets of a user or of one device. $1 user uuid, $2 reason text, $3 device text or null.
-- Returns one row: how many devices were connected.
select rollcall.disconnect($1, $2, $3) as devices
