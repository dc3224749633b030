-- Rows of random users in random rooms. $1 first id bigint, $2 rows bigint, $3 users uuid[]; $table is replaced by the table name.
insert into public.$table (id, user_id, room, body)
select n, ($3::uuid[])[1 + n % cardinality($3::uuid[])], n % 100, 'x' from generate_series($1::bigint, $1::bigint + $2::bigint - 1) n
