-- What the files of this directory create, to be recorded once rollcall_internal.installed_objects exists (see after/).
-- All of it, the migrations included, runs in one transaction.
-- The setting rollcall.owner names the role that will own the schemas; without it, the current role does. The setting
-- rollcall.modules lists the modules; without it, all are installed.
create temp table rollcall_created (
  id bigint generated always as identity primary key,
  kind text not null,
  name text not null,
  undo text not null
) on commit drop;
