-- Whether the caller sees a conversation. $1 uuid. Returns one row, or none.
select to_jsonb(c.id) as found from rollcall.conversations c where c.id = $1
