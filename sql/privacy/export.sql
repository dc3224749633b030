-- Everything that is kept on the caller's presence. Returns one JSON object: rows by table.
select rollcall.export_mine() as data
