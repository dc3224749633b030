-- Broadcasts from the database: partitions of realtime.messages, and how nodes hear of new rows.
-- Invariant: a row is announced by the statement that inserts it, so nodes hear of it after the commit, in commit order,
-- and never after a rollback. A probe of the policies is no message.

-- Makes the partitions of yesterday to p_ahead days from now and drops those that hold nothing younger than p_keep.
-- Returns how many it made and dropped. Any node may call it at any time; where there is nothing to do it takes no lock,
-- and otherwise they take turns. Does nothing where another role looks after the table.
-- Makes a table of its own first and attaches it, because that does not wait for those who read and insert.
-- Definer: the owner of the migrations is a member of the table's owner.
create function rollcall.keep_message_partitions(p_keep interval default '72 hours', p_ahead int default 3)
  returns table (created int, dropped int)
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '3s' set timezone = 'UTC'
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
      select from pg_catalog.pg_inherits i where i.inhparent = v_parent and i.inhrelid = to_regclass('realtime.' || v_name));
    perform pg_advisory_xact_lock(hashtextextended('rollcall.message_partitions', 0));
    -- Another node may have been quicker.
    continue when exists (
      select from pg_catalog.pg_inherits i where i.inhparent = v_parent and i.inhrelid = to_regclass('realtime.' || v_name));
    begin
      -- One that was detached by hand is attached again: senders need it.
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
    exception when invalid_object_definition then
      -- Another partition holds a part of that day.
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
      execute format('drop table if exists %s', v_old.partition);
      dropped := dropped + 1;
    exception when lock_not_available or undefined_table then
      -- Somebody reads it: the next call tries again. Or another node was quicker.
      null;
    end;
  end loop;
  return next;
end
$$;
comment on function rollcall.keep_message_partitions is
  'Makes the partitions of realtime.messages that are needed and drops those past their time.';
grant execute on function rollcall.keep_message_partitions to service_role;

-- Tells nodes of new rows by their ids, in the order in which the statement inserted them: `<ms since 1970>|<id>,<id>…`,
-- at most 200 a payload, because one has less than 8,000 bytes.
-- Definer: called from the trigger, for whoever inserts.
create function rollcall.on_messages_inserted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids constant uuid[] := array(select n.id from new_rows n);
begin
  for v_first in 1 .. cardinality(v_ids) by 200 loop
    perform pg_notify('rollcall_messages', (extract(epoch from clock_timestamp()) * 1000)::bigint || '|'
      || array_to_string(v_ids[v_first : v_first + 199], ','));
  end loop;
  return null;
end
$$;

-- Puts the trigger on realtime.messages, where that can be done; true when it is there.
-- Definer: the owner of the migrations may make triggers on that table if it is a member of its owner.
create function rollcall.hear_messages() returns boolean
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '3s'
as $$
begin
  if to_regclass('realtime.messages') is null then
    return false;
  end if;
  if not exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = to_regclass('realtime.messages') and t.tgname = 'rollcall_messages' and t.tgenabled in ('O', 'A'))
  then
    -- A probe of the policies says so, and is not announced.
    execute $trigger$
      create or replace trigger rollcall_messages after insert on realtime.messages
        referencing new table as new_rows for each statement
        when (current_setting('rollcall.probe', true) is distinct from 'on')
        execute function rollcall.on_messages_inserted()
    $trigger$;
  end if;
  return true;
exception when insufficient_privilege or lock_not_available then
  return false;
end
$$;
comment on function rollcall.hear_messages is 'Lets nodes hear of new rows in realtime.messages. False where that is not ours to do.';

-- On Supabase the table is Supabase's: what is done to it there is the operator's decision, for which doctor gives the
-- statements, and not a migration's.
do $$
begin
  if exists (select from pg_roles where rolname = 'supabase_auth_admin') then
    return;
  end if;
  if not rollcall.hear_messages() then
    raise notice 'no right to make a trigger on realtime.messages: broadcasts from the database are not delivered';
  end if;
  perform rollcall.keep_message_partitions();
end
$$;

revoke execute on all functions in schema rollcall from public;
