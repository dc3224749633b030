select realtime.send('{"from": "sql"}', 'hello', 'room:' || gen_random_uuid(), false);
