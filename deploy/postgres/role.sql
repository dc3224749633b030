-- The role that Rollcall logs in with. It owns the database and is no superuser. The image of PostgreSQL executes this
-- file once, as the superuser, when it creates the database; psql sets DBNAME.
\set password `printf %s "$ROLLCALL_PASSWORD"`
-- createrole: to create anon, authenticated and service_role, and to act as them. replication: to read row changes.
-- bypassrls: so that service_role may have it too.
create role rollcall login nosuperuser nocreatedb createrole replication bypassrls password :'password';
alter database :"DBNAME" owner to rollcall;
-- Other logins of the cluster have no access.
revoke connect, temporary on database :"DBNAME" from public;
