insert into {table} (viewer_id, subject_id) values (gen_random_uuid(), gen_random_uuid());
