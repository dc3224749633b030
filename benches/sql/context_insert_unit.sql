insert into rollcall.atomic_chat_units (user_id, content)
select '$user', 'The greenhouse heating fails when it is cold outside and the pump stops' from generate_series(1, $rows);
