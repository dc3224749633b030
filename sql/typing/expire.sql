-- Ends typing that was not refreshed. Returns one row: milliseconds until the next is due, null when nobody types.
select (extract(epoch from (rollcall.expire_typing() - clock_timestamp())) * 1000)::float8
