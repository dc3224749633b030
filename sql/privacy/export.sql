-- All data kept about the caller. Returns one JSON object: rows by table.
select rollcall.export_mine() as data
