-- Returns the milliseconds for which statements were active in this database.
select active_time from pg_stat_database where datname = current_database()
