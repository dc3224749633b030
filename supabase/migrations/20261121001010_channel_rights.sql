-- Private channels: how the server asks the policies on realtime.messages, and how it hears that the answer may differ.
-- Invariant: the policies are asked by a probe that is rolled back; nothing here decides who may do what. Everything that
-- an answer depends on is announced on `rollcall_rights` by the transaction that changes it.

-- The probe --------------------------------------------------------------------------------------------------------

-- What each of some callers may do in a channel, asked as that caller: reads are rows of ours that it sees, writes are
-- rows that it inserts. To be called in a transaction that is rolled back. A policy that raises for one caller gives one
-- row with `error` for that caller and does not touch the others; so does a role that there is not.
-- The i-th caller asks about p_topics[p_topic[i]]; callers with one role one after the other save planning.
-- Invoker: it takes on the roles of the callers, which only the login role of the server can. Not for API roles.
create function rollcall.probe_channels(
  p_topics text[], p_topic int[], p_role text[], p_sub text[], p_claims text[], p_headers text[], p_read boolean[],
  p_write boolean[]
) returns table (
  caller int, broadcast_read boolean, presence_read boolean, broadcast_write boolean, presence_write boolean, error text
)
  language plpgsql volatile security invoker set search_path = ''
as $$
#variable_conflict use_column
declare
  v_at constant timestamp := clock_timestamp() at time zone 'utc';
  v_broadcast constant uuid[] := array(select gen_random_uuid() from unnest(p_topics));
  v_presence constant uuid[] := array(select gen_random_uuid() from unnest(p_topics));
  v_topic text;
begin
  perform set_config('rollcall.probe', 'on', true);
  if true = any (p_read) then
    insert into realtime.messages (id, topic, extension, private, inserted_at, updated_at)
      select row.id, probed.topic, row.extension, false, v_at, v_at
      from unnest(p_topics, v_broadcast, v_presence) as probed (topic, broadcast_id, presence_id)
      cross join lateral (values (broadcast_id, 'broadcast'), (presence_id, 'presence')) as row (id, extension);
  end if;

  for i in 1 .. cardinality(p_role) loop
    begin
      v_topic := p_topics[p_topic[i]];
      -- `none` is not a role but the absence of one, which would be ours.
      perform set_config('role', case p_role[i] when 'none' then '' else p_role[i] end, true),
        set_config('realtime.topic', v_topic, true),
        set_config('request.jwt.claims', p_claims[i], true),
        set_config('request.jwt.claim.sub', coalesce(p_sub[i], ''), true),
        set_config('request.jwt.claim.role', p_role[i], true),
        set_config('request.headers', p_headers[i], true);
      caller := i; error := null;
      broadcast_read := null; presence_read := null; broadcast_write := null; presence_write := null;
      if p_read[i] then
        select coalesce(bool_or(m.extension = 'broadcast'), false), coalesce(bool_or(m.extension = 'presence'), false)
          into broadcast_read, presence_read
          from realtime.messages m
          where m.id in (v_broadcast[p_topic[i]], v_presence[p_topic[i]]) and m.inserted_at = v_at;
      end if;
      if p_write[i] then
        -- Both at once, because most may do both or neither; each alone only where that is refused.
        begin
          insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
            values (v_topic, 'broadcast', false, v_at, v_at), (v_topic, 'presence', false, v_at, v_at);
          broadcast_write := true; presence_write := true;
        exception when insufficient_privilege then
          begin
            insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
              values (v_topic, 'broadcast', false, v_at, v_at);
            broadcast_write := true;
          exception when insufficient_privilege then
            broadcast_write := false;
          end;
          begin
            insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
              values (v_topic, 'presence', false, v_at, v_at);
            presence_write := true;
          exception when insufficient_privilege then
            presence_write := false;
          end;
        end;
      end if;
    exception when others then
      broadcast_read := null; presence_read := null; broadcast_write := null; presence_write := null;
      caller := i; error := sqlstate;
    end;
    return next;
  end loop;
  perform set_config('role', 'none', true), set_config('rollcall.probe', '', true);
end
$$;
comment on function rollcall.probe_channels is 'What each of some callers may do in a private channel, asked of its policies.';

-- What an answer depends on ----------------------------------------------------------------------------------------

-- Announces that answers about channels may differ: `<ms since 1970>|<what>|<traces>`. Traces are the first four bytes,
-- in hexadecimal, of the SHA-256 of values in the rows that changed; callers whose user or channel leaves one of these
-- traces are asked first. Without traces everybody is asked at once.
-- Definer: called from triggers of whoever writes.
create function rollcall.void_rights(p_what text, p_traces text[] default '{}') returns void
  language sql volatile security definer set search_path = ''
as $$
  select pg_notify('rollcall_rights', concat_ws('|', (extract(epoch from clock_timestamp()) * 1000)::bigint,
    left(replace(p_what, '|', ' '), 200),
    case when cardinality(p_traces) <= 500 then array_to_string(p_traces, ',') else '' end))
$$;
comment on function rollcall.void_rights is 'Makes every node ask again who may use which private channel.';
grant execute on function rollcall.void_rights to service_role;

-- The traces of the values in some rows, as jsonb; none where there are more than a hundred rows, which is everybody.
-- Invoker: computes only.
create function rollcall.traces(p_rows jsonb[]) returns text[]
  language sql immutable security invoker set search_path = ''
as $$
  select case when cardinality(p_rows) <= 100 then array(
    select distinct left(encode(sha256(convert_to(field.value, 'UTF8')), 'hex'), 8)
    from unnest(p_rows) as changed (fields)
    cross join lateral jsonb_each_text(changed.fields) field
    where length(field.value) between 1 and 200
  ) else '{}' end
$$;

-- A table that a policy on realtime.messages mentions has changed. One function an operation, because a transition table
-- that is not there cannot be named.
-- Definer, like all triggers here: see void_rights.
create function rollcall.on_rights_source_inserted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_rows constant jsonb[] := array(select to_jsonb(n) from new_rows n limit 101);
begin
  if cardinality(v_rows) > 0 then
    perform rollcall.void_rights(tg_table_schema || '.' || tg_table_name, rollcall.traces(v_rows));
  end if;
  return null;
end
$$;

-- A statement that changes a row into itself changes no answer.
create function rollcall.on_rights_source_updated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_rows constant jsonb[] := array(
    (select to_jsonb(n) from new_rows n except all select to_jsonb(o) from old_rows o limit 51)
    union all
    (select to_jsonb(o) from old_rows o except all select to_jsonb(n) from new_rows n limit 51));
begin
  if cardinality(v_rows) > 0 then
    perform rollcall.void_rights(tg_table_schema || '.' || tg_table_name, rollcall.traces(v_rows));
  end if;
  return null;
end
$$;

create function rollcall.on_rights_source_deleted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_rows constant jsonb[] := array(select to_jsonb(o) from old_rows o limit 101);
begin
  if cardinality(v_rows) > 0 then
    perform rollcall.void_rights(tg_table_schema || '.' || tg_table_name, rollcall.traces(v_rows));
  end if;
  return null;
end
$$;

create function rollcall.on_rights_source_truncated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall.void_rights(tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;

-- The tables that decide who may use which channel. Our own functions are looked into, because policies on
-- realtime.messages may well call them; of `realtime` only the policies' own table and topic() are meant.
-- Definer: reads catalogs only.
create function rollcall.rights_sources() returns setof regclass
  language sql stable security definer set search_path = ''
as $$
  select rollcall.policy_sources(array[to_regclass('realtime.messages')], array['realtime'])
$$;
comment on function rollcall.rights_sources is 'The tables that decide who may use which private channel, by what policies mention.';

-- Makes a table a source of rights: open channels follow its changes. Policies do this by themselves for every table
-- that they mention; call it for one that is hidden in a function's text.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_rights_source(p_table regclass) returns boolean
  language plpgsql security invoker set search_path = ''
as $$
begin
  if exists (select from pg_catalog.pg_trigger t where t.tgrelid = p_table and t.tgname = 'rollcall_rights_truncate') then
    return false;
  end if;
  execute format('create trigger rollcall_rights_insert after insert on %s referencing new table as new_rows
    for each statement execute function rollcall.on_rights_source_inserted()', p_table);
  execute format('create trigger rollcall_rights_update after update on %s referencing old table as old_rows new table as new_rows
    for each statement execute function rollcall.on_rights_source_updated()', p_table);
  execute format('create trigger rollcall_rights_delete after delete on %s referencing old table as old_rows
    for each statement execute function rollcall.on_rights_source_deleted()', p_table);
  execute format('create trigger rollcall_rights_truncate after truncate on %s
    for each statement execute function rollcall.on_rights_source_truncated()', p_table);
  return true;
end
$$;
comment on function rollcall.watch_rights_source is
  'Lets open private channels follow the changes of a table that decides who may use them. True when it was not watched before.';
grant execute on function rollcall.watch_rights_source to service_role;

-- Watches every table that a policy on realtime.messages mentions and that is not watched yet; says which.
-- Definer: the owner of the migrations may create triggers on the tables that it owns; others are reported by doctor.
create function rollcall.watch_rights_sources() returns setof regclass
  language plpgsql security definer set search_path = ''
as $$
declare
  v_table regclass;
begin
  for v_table in select s from rollcall.rights_sources() s loop
    begin
      if rollcall.watch_rights_source(v_table) then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open private channels only when something else changes', v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_rights_sources();', v_table, current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_rights_sources is 'Watches every table that a policy on realtime.messages mentions.';

-- Whether a policy on realtime.messages, or a function that it calls, looks at the time: then an answer may become
-- another with nothing to announce it. By their texts, so it may be once too often.
-- Definer: reads catalogs only.
create function rollcall.rights_depend_on_time() returns boolean
  language sql stable security definer set search_path = ''
as $$
  with asked (text) as (
    select concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_catalog.pg_policy p
    where p.polrelid = to_regclass('realtime.messages')
  )
  select exists (
    select from (
      select a.text from asked a
      union all
      select f.prosrc
      from pg_catalog.pg_proc f
      join pg_catalog.pg_namespace s on s.oid = f.pronamespace
        and s.nspname !~ '^pg_' and s.nspname not in ('information_schema', 'realtime', 'auth')
      where exists (select from asked a where position(f.proname || '(' in a.text) > 0)
    ) texts
    where texts.text ~* '(now|clock_timestamp|transaction_timestamp|statement_timestamp|timeofday)\(|current_(date|time)|localtime|''now'''
  )
$$;
comment on function rollcall.rights_depend_on_time is 'Whether answers about private channels may differ with nothing but the time.';

-- Definer: runs for whoever issues DDL, who need not have any right here.
create function rollcall.on_rights_ddl() returns event_trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  -- Half of our own objects may be gone when they are dropped together.
  if to_regclass('realtime.messages') is null or to_regprocedure('rollcall.void_rights(text, text[])') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE',
      'ALTER ROUTINE', 'DROP ROUTINE', 'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW',
      'ALTER MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE',
      'DROP TYPE', 'DROP SCHEMA', 'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    perform rollcall.void_rights(lower(tg_tag));
  end if;
  -- A table may be made after the function that reads it, and a partition after its parent. Temporary ones are not ours.
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'ALTER TABLE', 'CREATE FUNCTION', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW')
    or tg_tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
      and exists (select from pg_catalog.pg_event_trigger_ddl_commands() c where c.schema_name <> 'pg_temp')
  then
    perform rollcall.watch_rights_sources();
  end if;
end
$$;
comment on function rollcall.on_rights_ddl is 'Voids all answers about private channels when policies, grants, tables or functions change.';

do $$
begin
  perform rollcall.watch_rights_sources();
  if not exists (select from pg_event_trigger where evtname = 'rollcall_rights_watch') then
    create event trigger rollcall_rights_watch on ddl_command_end execute function rollcall.on_rights_ddl();
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create an event trigger: policies are compared by fingerprint instead';
end
$$;

revoke execute on all functions in schema rollcall from public;
