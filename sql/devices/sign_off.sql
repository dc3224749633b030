-- Signs off one of the caller's devices and closes its sockets on every node. $1 device text.
-- Returns one row: whether the device exists.
select rollcall.sign_off_mine($1) as found
