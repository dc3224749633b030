\set c random(1, 100)
insert into rollcall.messages (conversation_id, user_id, content, token_count)
select md5('c' || :c)::uuid, '$user', 'A message of some words that says something about the greenhouse and its heating.', 20
from generate_series(1, $rows);
