-- Everything is audited: an event trigger turns row-level security on, another one notifies PostgREST, triggers of the
-- project are on every table, ours included, and one of them raises for some rows.
--! on postgres
--! users alice bob carol

set search_path = public, extensions;
create extension hstore schema extensions;
create table audit_log (id bigint generated always as identity, happened_at timestamptz default now(), tab text, op text, who text, diff hstore);
create function audit() returns trigger
  language plpgsql security definer
as $$
begin
  insert into audit_log (tab, op, who, diff) values (tg_table_schema || '.' || tg_table_name, tg_op, auth.uid()::text,
    case tg_op when 'UPDATE' then hstore(new) - hstore(old) when 'DELETE' then hstore(old) else hstore(new) end);
  return coalesce(new, old);
end
$$;
create function audit_statement() returns trigger language plpgsql as $$
begin
  insert into audit_log (tab, op) values (tg_table_name, 'after ' || tg_op);
  return null;
end
$$;
alter table audit_log enable row level security;
create table tasks (id bigint primary key, assignee uuid, title text);
create table colleagues (person uuid, colleague uuid, primary key (person, colleague));
create index on colleagues (colleague);
alter table tasks enable row level security;
alter table colleagues enable row level security;
create policy assigned on tasks for select to authenticated using (assignee = auth.uid());
create policy tasks_channel on realtime.messages for all to authenticated
  using (exists (select from tasks where assignee = auth.uid() and 'task:' || id = realtime.topic()))
  with check (exists (select from tasks where assignee = auth.uid() and 'task:' || id = realtime.topic()));
alter publication supabase_realtime add table tasks;

--! superuser
create function public.force_row_level_security() returns event_trigger language plpgsql as $$
declare
  made record;
begin
  for made in select * from pg_event_trigger_ddl_commands() where command_tag in ('CREATE TABLE', 'CREATE TABLE AS') and object_type = 'table' loop
    execute format('alter table if exists %s enable row level security', made.object_identity);
  end loop;
end
$$;
create event trigger force_row_level_security on ddl_command_end when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
  execute function public.force_row_level_security();
create function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql as $$
declare
  cmd record;
begin
  for cmd in select * from pg_event_trigger_ddl_commands() loop
    if cmd.command_tag in ('CREATE SCHEMA', 'CREATE TABLE', 'CREATE FUNCTION') and cmd.schema_name is distinct from 'pg_temp' then
      notify pgrst, 'reload schema';
    end if;
  end loop;
end
$$;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
create function public.no_public_drop() returns event_trigger language plpgsql as $$
declare
  obj record;
begin
  for obj in select * from pg_event_trigger_dropped_objects() where schema_name = 'public' and object_type = 'table' loop
    raise exception 'tables of public are not dropped: %', obj.object_identity;
  end loop;
end
$$;
create event trigger no_public_drop on sql_drop execute function public.no_public_drop();

insert into tasks values (1, :alice, 'Paint');

--! install
do $$
declare
  t regclass;
begin
  for t in select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'rollcall') and c.relname <> 'audit_log'
  loop
    execute format('create trigger audit_row after insert or update or delete on %s for each row execute function audit()', t);
    execute format('create trigger audit_all after insert or update or delete on %s for each statement execute function audit_statement()', t);
    -- One table after the other: a transaction that locks all tables of a running server can deadlock with it.
    commit;
  end loop;
end
$$;

--! channel task:1 alice rw
--! channel task:1 bob none
--! changes public.tasks to alice
update tasks set title = 'Paint the wall';

select rollcall.use_table('contacts', 'colleagues', user_column => 'person', other_column => 'colleague');
insert into colleagues values (:alice, :bob), (:alice, :carol);
--! online bob carol
--! sees alice bob carol
do $$ begin assert (select count(*) from audit_log where tab = 'rollcall.user_presence') > 0; end $$;

create function stop_carol() returns trigger language plpgsql as $$
begin
  if new.user_id = 'a0000000-0000-4000-8000-000000000003' then raise exception 'not today'; end if;
  return new;
end
$$;
create trigger stop_carol before insert or update on rollcall.presence_devices for each row execute function stop_carol();
update colleagues set colleague = :carol where false;
delete from colleagues where colleague = :bob;
--! hides alice bob
--! sees alice carol
do $$
begin
  perform rollcall.set_status('a0000000-0000-4000-8000-000000000003', 'away');
  raise 'the trigger did not stop it';
exception when raise_exception then
  if sqlerrm <> 'not today' then raise; end if;
end
$$;
drop trigger stop_carol on rollcall.presence_devices;
drop function stop_carol();

--! sees alice carol
do $$
declare
  t regclass;
begin
  for t in select tgrelid from pg_trigger where tgname = 'audit_row' loop
    execute format('drop trigger audit_row on %1$s; drop trigger audit_all on %1$s', t);
    commit;
  end loop;
end
$$;
