-- The triggers that keep faces, sockets and prepared context true, as the migrations made them: so that the doctor can
-- tell when one is gone, and make it again.
-- Invariant: a migration that makes or drops a trigger ends with `select rollcall.record_triggers()`.

create table rollcall.triggers (
  relation regclass not null,
  name name not null,
  definition text not null,
  primary key (relation, name)
);
comment on table rollcall.triggers is 'The triggers of Rollcall''s tables, with the statements that make them; rollcall doctor compares.';
alter table rollcall.triggers enable row level security;

-- Records the triggers that there are and that run functions of Rollcall's; those of watched tables come and go with
-- policies, and are looked at by themselves.
-- Invoker: reads catalogs; the owner's.
create function rollcall.record_triggers() returns bigint
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_count bigint;
begin
  delete from rollcall.triggers;
  insert into rollcall.triggers (relation, name, definition)
    select t.tgrelid, t.tgname, pg_catalog.pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'rollcall'::regnamespace
    where not t.tgisinternal and t.tgparentid = 0 and t.tgname not like 'rollcall\_%';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall.record_triggers is 'Records the triggers of Rollcall''s tables, for the doctor.';

do $$ begin perform rollcall.record_triggers(); end $$;

revoke execute on all functions in schema rollcall from public;
