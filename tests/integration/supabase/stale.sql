-- Counts presence rows that differ from what devices, choices and settings determine. Returns one row.
select count(*)
from rollcall_internal.faces_of(array(select user_id from rollcall.user_last_seen), now()) f
full join rollcall.user_presence p on p.user_id = f.user_id and p.face = f.face
where (f.known and f.shown or p.user_id is not null)
  and (f.status, f.reach, f.custom_status, f.activity, f.current_page, f.idle_since)
    is distinct from (p.status, p.reach, p.custom_status, p.activity, p.current_page, p.idle_since)
