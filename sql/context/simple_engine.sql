-- Whether the simple engine's tables can be read by the caller. Returns one row.
select (select count(*) from (select from rollcall.custom_instructions limit 1) i)
  + (select count(*) from (select from rollcall.memories limit 1) m)
  + (select count(*) from (select from rollcall.messages limit 1) s)
