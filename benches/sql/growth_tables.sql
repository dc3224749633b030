-- Size with indexes and number of dead rows of each table of Rollcall.
select format('%s.%s', s.schemaname, s.relname) as name, pg_total_relation_size(s.relid) as bytes, s.n_dead_tup as dead
from pg_stat_user_tables s
where s.schemaname in ('rollcall', 'rollcall_internal', 'realtime')
