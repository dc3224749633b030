-- Creates a conversation. $1 title text or null. Returns its id.
insert into rollcall.conversations (title, created_by) values ($1, auth.uid())
returning id
