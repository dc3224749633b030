-- Module: channels
-- Broadcasts from the database and between nodes: partitions and notifications of realtime.messages, and the bus. A
-- row is notified by the statement that inserts it: after the commit, in commit order, and never after a rollback.

-- From yesterday to p_ahead days from now; drops partitions without rows younger than p_keep. Any node may call it at
-- any time: without work it takes no lock, otherwise calls are serialized. Does nothing where another role owns the
-- table. Creates a table first and attaches it, because that does not wait for readers and writers.
-- Definer: the owner of Rollcall is a member of the table's owner.
-- Over 60 lines: creation and removal share checks and locks.
create function rollcall.maintain_message_partitions(p_keep interval default '72 hours', p_ahead int default 3)
  returns table (created int, dropped int)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
  set lock_timeout = '3s' set timezone = 'UTC'
as $$
declare
  v_parent constant regclass := to_regclass('realtime.messages');
  v_now constant timestamp := clock_timestamp() at time zone 'utc';
  v_owner name;
  v_day date;
  v_name text;
  v_old record;
begin
  created := 0; dropped := 0;
  select r.rolname into v_owner from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
    where c.oid = v_parent and c.relkind = 'p' and pg_has_role(r.oid, 'member')
      and has_schema_privilege('realtime', 'create');
  if v_owner is null then
    return next;
    return;
  end if;

  for v_day in
    select day::date from generate_series(v_now::date - 1, v_now::date + p_ahead, interval '1 day') day
  loop
    v_name := 'messages_' || to_char(v_day, 'YYYY_MM_DD');
    continue when exists (
      select from pg_catalog.pg_inherits i where i.inhparent = v_parent
        and i.inhrelid = to_regclass('realtime.' || v_name));
    perform pg_advisory_xact_lock(hashtextextended('rollcall.message_partitions', 0));
    -- Another node may have created it.
    continue when exists (
      select from pg_catalog.pg_inherits i where i.inhparent = v_parent
        and i.inhrelid = to_regclass('realtime.' || v_name));
    begin
      -- A detached partition is attached again: senders need it.
      if to_regclass('realtime.' || v_name) is null then
        execute format('create table realtime.%I (like realtime.messages including all)', v_name);
        execute format('alter table realtime.%I enable row level security', v_name);
        if v_owner <> current_user then
          execute format('alter table realtime.%I owner to %I', v_name, v_owner);
        end if;
      end if;
      execute format('alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)',
        v_name, v_day::timestamp, (v_day + 1)::timestamp);
      created := created + 1;
      -- A partition with broadcasts in it stays.
      insert into rollcall_internal.installed_objects (kind, name, undo)
        select 'partition', 'realtime.' || v_name, format('do $undo$ begin '
          'if exists (select from pg_catalog.pg_inherits i where i.inhrelid = to_regclass(%1$L)) then '
          'if not exists (select from realtime.%2$I) then '
          'drop table realtime.%2$I; end if; end if; end $undo$', 'realtime.' || v_name, v_name)
        where not exists (
          select from rollcall_internal.installed_objects o where o.name = 'realtime.messages' and o.kind = 'table');
    exception when invalid_object_definition then
      -- Another partition holds part of that day.
      null;
    end;
  end loop;

  for v_old in
    select c.oid::regclass as partition
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = v_parent
      and c.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
      and to_date(right(c.relname, 10), 'YYYY_MM_DD') + 1 <= v_now - p_keep
  loop
    perform pg_advisory_xact_lock(hashtextextended('rollcall.message_partitions', 0));
    begin
      delete from rollcall_internal.installed_objects o where o.kind = 'partition' and o.name = v_old.partition::text;
      execute format('drop table if exists %s', v_old.partition);
      dropped := dropped + 1;
    exception when lock_not_available or undefined_table then
      -- A reader holds it, and the next call tries again; or another node dropped it.
      null;
    end;
  end loop;
  return next;
end
$$;
comment on function rollcall.maintain_message_partitions is
  'Creates the partitions of realtime.messages that are needed and drops expired ones; returns how many of each.';
grant execute on function rollcall.maintain_message_partitions to service_role;

-- `<ms since 1970>|<id>,<id>…` in insertion order, at most 200 ids per payload of less than 8,000 bytes.
-- Definer: called from the trigger for any sender.
create function rollcall_internal.on_messages_inserted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids constant uuid[] := array(select n.id from new_rows n);
begin
  for v_first in 1 .. cardinality(v_ids) by 200 loop
    perform rollcall_internal.notify('rollcall_messages', array_to_string(v_ids[v_first : v_first + 199], ','));
  end loop;
  return null;
end
$$;
comment on function rollcall_internal.on_messages_inserted is
  'Trigger function: notifies nodes of new rows of realtime.messages by their ids.';

-- Definer: the owner of Rollcall may create it if it is a member of the table's owner.
create function rollcall.enable_message_notifications() returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '3s'
as $$
begin
  if to_regclass('realtime.messages') is null then
    return false;
  end if;
  if not exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = to_regclass('realtime.messages') and t.tgname = 'rollcall_messages' and t.tgenabled in ('O', 'A'))
  then
    -- A probe of the policies sets this and is not notified.
    execute $trigger$
      create or replace trigger rollcall_messages after insert on realtime.messages
        referencing new table as new_rows for each statement
        when (current_setting('rollcall.probe', true) is distinct from 'on')
        execute function rollcall_internal.on_messages_inserted()
    $trigger$;
  end if;
  return true;
exception when insufficient_privilege or lock_not_available then
  return false;
end
$$;
comment on function rollcall.enable_message_notifications is
  'Creates the trigger on realtime.messages; false where that is not allowed.';

-- On Supabase the table belongs to Supabase: there the operator decides, and doctor shows the statements.
do $$
begin
  if exists (select from pg_roles where rolname = 'supabase_auth_admin') then
    return;
  end if;
  if not rollcall.enable_message_notifications() then
    raise notice 'no right to create a trigger on realtime.messages: broadcasts from the database are not delivered';
  end if;
  perform rollcall.maintain_message_partitions();
end
$$;

-- Bus between nodes ---------------------------------------------------------------------------------------------------

-- Broadcasts on their way to sockets of other nodes: at most once, in the order of each node. State does not travel
-- here. A node numbers its batches and repeats one whose write failed; the readers skip a number that they have.
create sequence rollcall_internal.bus_id;

-- Three partitions take turns every twenty seconds; the oldest is truncated, which costs nothing per row.
create table rollcall_internal.bus (
  id bigint not null default nextval('rollcall_internal.bus_id'),
  slot smallint not null,
  node uuid not null,
  batch bigint not null,
  payload bytea not null
) partition by list (slot);
comment on table rollcall_internal.bus is
  'Messages between nodes: one row holds many. Each other node reads it once; kept for half a minute.';
-- No policies: only the server reads and writes it.
alter table rollcall_internal.bus enable row level security;

create unlogged table rollcall_internal.bus_0 partition of rollcall_internal.bus (
  constraint bus_0_pkey primary key (id)
) for values in (0);
comment on table rollcall_internal.bus_0 is 'A third of the bus.';
alter table rollcall_internal.bus_0 enable row level security;

create unlogged table rollcall_internal.bus_1 partition of rollcall_internal.bus (
  constraint bus_1_pkey primary key (id)
) for values in (1);
comment on table rollcall_internal.bus_1 is 'A third of the bus.';
alter table rollcall_internal.bus_1 enable row level security;

create unlogged table rollcall_internal.bus_2 partition of rollcall_internal.bus (
  constraint bus_2_pkey primary key (id)
) for values in (2);
comment on table rollcall_internal.bus_2 is 'A third of the bus.';
alter table rollcall_internal.bus_2 enable row level security;

-- Definer: called by definer functions only.
create function rollcall_internal.bus_slot() returns smallint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (floor(extract(epoch from clock_timestamp()) / 20)::bigint % 3)::smallint;
end
$$;
comment on function rollcall_internal.bus_slot is 'The partition of the bus that takes messages now.';

-- NOTIFY carries the position, never the content: any role may LISTEN.
-- Definer: only the server writes the bus.
create function rollcall_internal.post_to_bus(p_node uuid, p_batch bigint, p_payload bytea) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_slot constant smallint := rollcall_internal.bus_slot();
  v_id bigint;
begin
  -- The row need not survive a crash.
  perform set_config('synchronous_commit', 'off', true);
  insert into rollcall_internal.bus (slot, node, batch, payload) values (v_slot, p_node, p_batch,
    p_payload) returning id into v_id;
  perform rollcall_internal.notify_directly('rollcall_bus', concat_ws(' ', p_node, v_slot, v_id));
end
$$;
comment on function rollcall_internal.post_to_bus is 'Sends a message to the other nodes.';

-- In the first half of a turn, when its content is 40 seconds old and no node can write to it. Where a reader holds
-- it, the next call tries again.
-- Definer: only the server writes the bus.
create function rollcall_internal.purge_bus() returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  v_next constant int := (rollcall_internal.bus_slot() + 1) % 3;
begin
  if extract(epoch from clock_timestamp())::numeric % 20 > 10
    or not pg_try_advisory_xact_lock(hashtextextended('rollcall_internal.purge_bus', 0))
  then
    return false;
  end if;
  perform set_config('synchronous_commit', 'off', true);
  execute format('truncate rollcall_internal.bus_%s', v_next);
  return true;
exception when lock_not_available then
  return false;
end
$$;
comment on function rollcall_internal.purge_bus is
  'Truncates the partition of the bus that is next; returns whether it did.';
