-- Rows of random users in random rooms. $1 first id bigint, $2 rows bigint, $3 users uuid[]; the table's name is put in.
insert into public.$table (id, user_id, room, body)
select n, ($3::uuid[])[1 + n % cardinality($3::uuid[])], n % 100, 'x' from generate_series($1::bigint, $1::bigint + $2::bigint - 1) n
