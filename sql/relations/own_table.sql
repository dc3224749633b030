-- The table of the application that provides a relation. $1 relation text. Returns one row, one text; none while the built-in
-- table provides it.
select source from rollcall.used_tables where relation = $1 and not built_in
