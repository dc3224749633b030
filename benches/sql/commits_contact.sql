insert into {table} (requester_id, addressee_id) values (gen_random_uuid(), gen_random_uuid());
