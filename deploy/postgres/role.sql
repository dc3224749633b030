-- The role that Rollcall logs in with. It owns the database and is no superuser. The image of PostgreSQL executes this
-- file once, as the superuser, when it creates the database; psql sets DBNAME.
\set password `printf %s "$ROLLCALL_PASSWORD"`
-- createrole: to create anon and authenticated, and to act as them. replication: to read row changes.
create role rollcall login nosuperuser nocreatedb createrole replication nobypassrls password :'password';
-- Only a superuser may create a role that bypasses row-level security.
create role service_role nologin noinherit bypassrls;
grant service_role to rollcall with admin option;
alter database :"DBNAME" owner to rollcall;
-- Other logins of the cluster have no access.
revoke connect, temporary on database :"DBNAME" from public;
