-- Erases the caller's presence. Returns one JSON object: how many rows were deleted, by table.
select rollcall.forget_me() as erased
