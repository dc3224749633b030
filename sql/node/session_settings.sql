-- Sent once on each connection before any other statement but timeouts: what the server, the database or the role sets as a default
-- must change neither results nor whether a statement succeeds. Connections that reach users' code also set search_path,
-- with rollcall.role_search_path.
-- Timeouts of statements and locks were set before, by the purpose of the connection.
set default_transaction_isolation = 'read committed';
set default_transaction_read_only = off;
set default_transaction_deferrable = off;
set idle_session_timeout = 0;
-- A node that stops in the middle of a transaction must not keep its locks.
set idle_in_transaction_session_timeout = '10s';
set timezone = 'UTC';
set datestyle = 'ISO, MDY';
set intervalstyle = 'postgres';
set bytea_output = 'hex';
set extra_float_digits = 1;
set standard_conforming_strings = on;
-- Off, it makes policies raise errors instead of hiding rows.
set row_security = on;
-- Policies are analysed by the text of their expressions.
set quote_all_identifiers = off;
set array_nulls = on;
set transform_null_equals = off;
set gin_fuzzy_search_limit = 0;
-- PostgreSQL 17 and later.
select set_config('transaction_timeout', '0', false) where current_setting('transaction_timeout', true) is not null;
