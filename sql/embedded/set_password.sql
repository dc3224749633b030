-- Hands the password to roles.sql of the same transaction, where a parameter cannot go.
-- $1 text: the password. One row.
select set_config('rollcall.password', $1, true)
