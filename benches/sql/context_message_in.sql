-- Inserts a message into one conversation. $1 conversation uuid, $2 user uuid.
insert into rollcall.messages (conversation_id, user_id, content, token_count)
values ($1, $2, 'A message of some words that says something about the greenhouse.', 20)
