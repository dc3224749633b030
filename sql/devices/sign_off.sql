-- Signs one of the caller's devices off, with its sockets on every node. $1 device text.
-- Returns one row: whether there is such a device.
select rollcall.sign_off_mine($1) as found
