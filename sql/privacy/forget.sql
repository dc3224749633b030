-- Erases what is kept on the caller's presence. Returns one JSON object: how many rows went, by table.
select rollcall.forget_me() as erased
