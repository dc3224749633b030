-- How the database tells the server that something changed.
-- Invariant: NOTIFY is a nudge that carries ids, never content. What may be seen is read again, under row-level
-- security, and every change of who may see whom is in rollcall.visibility_log in the transaction that made it.

-- Whose sight is void since when. A reader that takes faces and this log in one snapshot knows whether what it
-- remembers of row-level security is as new as the faces it read.
-- Unlogged: after a crash every node starts from nothing anyway.
create unlogged table rollcall.visibility_log (
  id bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  viewers uuid[],
  subjects uuid[],
  reason text not null,
  noted_at timestamptz not null default now()
);
comment on table rollcall.visibility_log is
  'Which viewers must be asked again about which subjects; null stands for all. Kept for a few minutes.';
create index visibility_log_xid on rollcall.visibility_log (xid);
-- No policies: only the server reads it.
alter table rollcall.visibility_log enable row level security;

-- Notes that what these viewers see of these subjects is void; null stands for all. A change of more than a
-- thousand users at once is noted as all, which costs less than the list.
-- Definer: appends to a table that nobody else may write.
create function rollcall.void_sight(p_viewers uuid[], p_subjects uuid[], p_reason text) returns void
  language plpgsql security definer set search_path = ''
as $$
begin
  insert into rollcall.visibility_log (viewers, subjects, reason)
  values (
    case when cardinality(p_viewers) <= 1000 then p_viewers end,
    case when cardinality(p_subjects) <= 1000 then p_subjects end,
    p_reason
  );
  -- The same payload: several of a transaction become one.
  perform pg_notify('rollcall_visibility', '');
end
$$;
comment on function rollcall.void_sight is 'Makes every node ask row-level security again about these viewers and subjects.';
grant execute on function rollcall.void_sight to service_role;

-- Ids go out in payloads of at most 200, because a payload has less than 8,000 bytes; in front stands the time in
-- milliseconds, from which the server tells how long a notification took.
-- Definer: called from triggers of whoever writes.
create function rollcall.notify_ids(p_channel text, p_ids uuid[]) returns void
  language sql volatile security definer set search_path = ''
as $$
  select pg_notify(p_channel,
    (extract(epoch from clock_timestamp()) * 1000)::bigint || '|' || string_agg(numbered.id::text, ','))
  from unnest(p_ids) with ordinality as numbered (id, place)
  group by (numbered.place - 1) / 200
$$;

-- Faces --------------------------------------------------------------------------------------------------------

-- A row that appears or goes changes what a viewer may see of the user as well as what there is to see: whoever
-- looked in vain before must be asked again. Definer, like all triggers here: see void_sight.
create function rollcall.on_faces_inserted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids constant uuid[] := array(select distinct n.user_id from new_rows n);
begin
  if cardinality(v_ids) > 0 then
    perform rollcall.void_sight(null, v_ids, 'a face appeared');
    perform rollcall.notify_ids('rollcall_presence', v_ids);
  end if;
  return null;
end
$$;

-- An update by hand gets its number here, and `reach` follows `status`. (After the fact, because a
-- trigger before each row would cost every refresh a lock a row.) Two updates of one state, then, and the second counts.
create function rollcall.on_faces_updated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  if current_setting('rollcall.batch', true) is distinct from 'on' then
    perform set_config('rollcall.batch', 'on', true);
    update public.user_presence p set
        version = nextval('rollcall.presence_version'),
        reach = case n.status when 'invisible' then n.reach when 'away' then 'away' when 'offline' then 'offline' else 'online' end
      from new_rows n
      where p.user_id = n.user_id and p.face = n.face;
    perform set_config('rollcall.batch', '', true);
  end if;
  if exists (select from new_rows) then
    perform rollcall.notify_ids('rollcall_presence', array(select distinct n.user_id from new_rows n));
  end if;
  return null;
end
$$;

create function rollcall.on_faces_deleted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids constant uuid[] := array(select distinct o.user_id from old_rows o);
begin
  if cardinality(v_ids) > 0 then
    perform rollcall.void_sight(null, v_ids, 'a face went');
    perform rollcall.notify_ids('rollcall_presence', v_ids);
  end if;
  return null;
end
$$;

create trigger notify_after_insert after insert on public.user_presence
  referencing new table as new_rows for each statement execute function rollcall.on_faces_inserted();
create trigger notify_after_update after update on public.user_presence
  referencing new table as new_rows for each statement execute function rollcall.on_faces_updated();
create trigger notify_after_delete after delete on public.user_presence
  referencing old table as old_rows for each statement execute function rollcall.on_faces_deleted();

-- TRUNCATE gives no rows to name. Any of our tables: everybody is asked again about everybody.
create function rollcall.on_truncated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall.void_sight(null, null, 'truncate ' || tg_table_name);
  return null;
end
$$;
create trigger void_after_truncate after truncate on public.user_presence
  for each statement execute function rollcall.on_truncated();
-- Nobody should, but a DBA may turn one row into another. The old owner is not told by name: everybody is asked again.
create trigger void_after_renaming after update of user_id, face on public.user_presence
  for each statement execute function rollcall.on_truncated();

-- Relations and settings ---------------------------------------------------------------------------------------
-- One function an operation; which columns hold viewers and subjects comes as trigger arguments.

-- Pairs: each side's sight of the other is void. Arguments: the two columns.
-- Definer: see void_sight. The column names are trigger arguments, set in migrations only.
create function rollcall.on_pairs_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids uuid[];
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
begin
  execute format(
    'select array(select side.id from (%s) changed cross join lateral (values (changed.%I), (changed.%I)) side (id) group by side.id)',
    v_rows, tg_argv[0], tg_argv[1]) into v_ids;
  if cardinality(v_ids) > 0 then
    perform rollcall.void_sight(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;

-- Subjects: everybody's sight of them is void.
create function rollcall.on_subjects_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then select array(select n.user_id from new_rows n) into v_ids;
    when 'DELETE' then select array(select o.user_id from old_rows o) into v_ids;
    else select array(select n.user_id from new_rows n union select o.user_id from old_rows o) into v_ids;
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall.void_sight(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;

-- Members of a group: those who came or left, and everybody in the group, see each other differently.
-- Arguments: the table and the column that names the group.
create function rollcall.on_members_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_moved uuid[];
  v_others uuid[];
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
begin
  execute format('select array(select distinct user_id from (%s) changed)', v_rows) into v_moved;
  if cardinality(v_moved) = 0 then
    return null;
  end if;
  execute format(
    'select array(select m.user_id from public.%I m where m.%I in (select changed.%2$I from (%3$s) changed) union select unnest($1))',
    tg_table_name, tg_argv[0], v_rows) into v_others using v_moved;
  perform rollcall.void_sight(v_others, v_moved, tg_table_name);
  perform rollcall.void_sight(v_moved, v_others, tg_table_name);
  return null;
end
$$;

-- Going invisible, or coming back, changes who sees the user type. (Faces take care of the rest.)
create function rollcall.on_choices_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then select array(select n.user_id from new_rows n where n.chosen = 'invisible') into v_ids;
    when 'DELETE' then select array(select o.user_id from old_rows o where o.chosen = 'invisible') into v_ids;
    else select array(
        select coalesce(n.user_id, o.user_id) from new_rows n full join old_rows o using (user_id)
        where (n.chosen is not distinct from 'invisible') <> (o.chosen is not distinct from 'invisible')
      ) into v_ids;
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall.void_sight(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;

do $$
declare
  v record;
begin
  for v in
    select * from (values
      ('presence_choices', 'rollcall.on_choices_changed()'),
      ('contacts', 'rollcall.on_pairs_changed(''requester_id'', ''addressee_id'')'),
      ('blocks', 'rollcall.on_pairs_changed(''blocker_id'', ''blocked_id'')'),
      ('presence_visibility_list', 'rollcall.on_pairs_changed(''user_id'', ''viewer_id'')'),
      ('presence_settings', 'rollcall.on_subjects_changed()'),
      ('team_members', 'rollcall.on_members_changed(''team_id'')'),
      ('conversation_participants', 'rollcall.on_members_changed(''conversation_id'')')
    ) as source (table_name, call)
  loop
    execute format('create trigger void_after_insert after insert on public.%I referencing new table as new_rows for each statement execute function %s', v.table_name, v.call);
    execute format('create trigger void_after_update after update on public.%I referencing old table as old_rows new table as new_rows for each statement execute function %s', v.table_name, v.call);
    execute format('create trigger void_after_delete after delete on public.%I referencing old table as old_rows for each statement execute function %s', v.table_name, v.call);
    execute format('create trigger void_after_truncate after truncate on public.%I for each statement execute function rollcall.on_truncated()', v.table_name);
  end loop;
end
$$;

-- A DBA's own tables ---------------------------------------------------------------------------------------------

-- Any change of a table of which we know nothing but that a policy mentions it: everybody is asked again.
create function rollcall.on_foreign_source_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall.void_sight(null, null, tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;

-- Makes a table a source of visibility: sockets follow its changes. Policies on our tables do this by themselves
-- for every table that they mention; call it for one that is hidden in a function's text.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_table(p_table regclass) returns boolean
  language plpgsql security invoker set search_path = ''
as $$
begin
  if exists (select from pg_catalog.pg_trigger t where t.tgrelid = p_table
      and (t.tgname = 'rollcall_watch' or t.tgname = 'void_after_insert')) then
    return false;
  end if;
  execute format('create trigger rollcall_watch after insert or update or delete or truncate on %s
    for each statement execute function rollcall.on_foreign_source_changed()', p_table);
  return true;
end
$$;
comment on function rollcall.watch_table is 'Lets sockets follow the changes of a table that decides who sees whom. True when it was not watched before.';
grant execute on function rollcall.watch_table to service_role;

-- The tables that policies on these tables depend on: those that they name (pg_depend knows), those that functions with
-- a parsed body name, those whose name stands in the text of any other function that they call, directly or through
-- another, and the partitions of any of them. It may be one too many; one too few only where a function builds a name at
-- run time. What is in the schemas p_closed is known already, and not looked into.
-- Definer: reads catalogs only.
create function rollcall.policy_sources(p_tables regclass[], p_closed text[]) returns setof regclass
  language sql stable security definer set search_path = ''
as $$
  with recursive
  needed (classid, objid) as (
    select d.refclassid, d.refobjid
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = any (p_tables)
      and d.refobjid <> p.polrelid
    union
    select following.refclassid, following.refobjid
    from needed n
    cross join lateral (
      select d.refclassid, d.refobjid
      from pg_catalog.pg_depend d
      where n.classid = 'pg_catalog.pg_proc'::regclass and d.classid = n.classid and d.objid = n.objid
      union
      -- A view stands for the tables that it reads.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and r.ev_class = n.objid and d.refobjid <> n.objid
      union
      -- Row-level security of a table that a policy reads counts as well.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_policy p
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = n.objid
      union
      -- A statement on a partition or child does not fire its parent's triggers.
      select 'pg_catalog.pg_class'::regclass, i.inhrelid
      from pg_catalog.pg_inherits i
      where n.classid = 'pg_catalog.pg_class'::regclass and i.inhparent = n.objid
      union
      select named.classid, named.objid
      from pg_catalog.pg_proc f
      join (
        select 'pg_catalog.pg_class'::regclass, c.oid, c.relname, c.relnamespace, '($|[^a-z0-9_])'
        from pg_catalog.pg_class c where c.relkind in ('r', 'p', 'v', 'm')
        union all
        select 'pg_catalog.pg_proc'::regclass, g.oid, g.proname, g.pronamespace, '"?\s*\(' from pg_catalog.pg_proc g
      ) named (classid, objid, name, namespace, ending)
        on position(lower(named.name) in lower(f.prosrc)) > 0
        and f.prosrc ~* ('(^|[^a-z0-9_])' || regexp_replace(named.name, '([^a-z0-9_])', '\\\1', 'gi') || named.ending)
      join pg_catalog.pg_namespace s on s.oid = named.namespace
        and s.nspname !~ '^pg_' and s.nspname <> 'information_schema' and s.nspname <> all (p_closed)
      where n.classid = 'pg_catalog.pg_proc'::regclass and f.oid = n.objid
        and f.prosqlbody is null
        and f.pronamespace not in (
          select own.oid from pg_catalog.pg_namespace own where own.nspname = 'pg_catalog' or own.nspname = any (p_closed))
    ) following
    where following.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
  )
  select distinct c.oid::regclass
  from needed n
  join pg_catalog.pg_class c on n.classid = 'pg_catalog.pg_class'::regclass and c.oid = n.objid
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace
  where c.relkind in ('r', 'p')
    and s.nspname not in ('rollcall', 'pg_catalog', 'information_schema') and s.nspname <> all (p_closed)
$$;
comment on function rollcall.policy_sources is 'The tables that policies on these tables depend on.';

-- The tables that decide who sees whom. Our own functions are left out: our own tables have triggers that know more.
-- Definer: reads catalogs only.
create function rollcall.visibility_sources() returns setof regclass
  language sql stable security definer set search_path = ''
as $$
  select rollcall.policy_sources(
    array['public.user_presence'::regclass, 'public.typing_indicators'::regclass], array['rollcall', 'auth'])
$$;
comment on function rollcall.visibility_sources is 'The tables that decide who sees whom, by what policies mention.';

-- Whether a policy on user_presence looks at more of a row than whose and which face it is. Then every change of a
-- face may change who sees it, and each is asked again instead of being told by what was true before.
-- Definer: reads catalogs only.
create function rollcall.policies_read_state() returns boolean
  language sql stable security definer set search_path = ''
as $$
  select exists (
    select
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = 'public.user_presence'::regclass
      and p.polcmd in ('r', '*')
      and d.deptype = 'n'
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p.polrelid
      -- A reference to the whole row has no column number.
      and d.refobjsubid not in (
        select a.attnum from pg_catalog.pg_attribute a
        where a.attrelid = p.polrelid and a.attname in ('user_id', 'face')
      )
  )
$$;
comment on function rollcall.policies_read_state is 'Whether policies on user_presence depend on the state of a row.';

-- Watches every table that a policy mentions and that is not watched yet; says which.
-- Definer: the owner of the migrations may create triggers on the tables that it owns; others are reported by doctor.
create function rollcall.watch_visibility_sources() returns setof regclass
  language plpgsql security definer set search_path = ''
as $$
declare
  v_table regclass;
begin
  for v_table in select s from rollcall.visibility_sources() s loop
    begin
      if rollcall.watch_table(v_table) then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open sockets only with the next full look', v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_visibility_sources();', v_table, current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_visibility_sources is 'Watches every table that a policy mentions.';

-- DDL ------------------------------------------------------------------------------------------------------------

-- Everything that decides who sees whom and lives in catalogs, in one number. Catalog rows are read under the
-- statement's snapshot, so a reader compares it in the same snapshot as the faces.
-- Definer: reads catalogs only.
create function rollcall.policy_fingerprint() returns bigint
  language sql stable security definer set search_path = ''
as $$
  select coalesce(sum(hashtextextended(part, 0) % 4294967296), 0)::bigint
  from (
    select p.oid::text || p.xmin::text as part from pg_catalog.pg_policy p
    union all
    select c.oid::text || c.relrowsecurity::text || c.relforcerowsecurity::text || coalesce(c.relacl::text, '')
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace s on s.oid = c.relnamespace and s.nspname !~ '^pg_' and s.nspname <> 'information_schema'
    where c.relkind in ('r', 'p', 'v', 'm')
    union all
    -- A view may be replaced by another.
    select r.oid::text || r.xmin::text from pg_catalog.pg_rewrite r where r.ev_class >= 16384
    union all
    select f.oid::text || f.xmin::text from pg_catalog.pg_proc f
    where f.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  ) as parts
$$;

-- Definer: runs for whoever issues DDL, who need not have any right here.
create function rollcall.on_ddl() returns event_trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  -- Half of our own objects may be gone when they are dropped together.
  if to_regclass('rollcall.visibility_log') is null or to_regclass('public.user_presence') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE', 'ALTER ROUTINE', 'DROP ROUTINE',
      'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
      'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE', 'DROP TYPE', 'DROP SCHEMA',
      'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    perform rollcall.void_sight(null, null, lower(tg_tag));
  end if;
  -- A table may be made after the function that reads it, and a partition after its parent. Temporary ones are not ours.
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'ALTER TABLE', 'CREATE FUNCTION', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW')
    or tg_tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
      and exists (select from pg_catalog.pg_event_trigger_ddl_commands() c where c.schema_name <> 'pg_temp')
  then
    perform rollcall.watch_visibility_sources();
  end if;
end
$$;
comment on function rollcall.on_ddl is 'Voids all sight when policies, grants, tables or functions change.';

do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch') then
    create event trigger rollcall_policy_watch on ddl_command_end execute function rollcall.on_ddl();
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create an event trigger: policies are compared by fingerprint instead';
end
$$;

revoke execute on all functions in schema rollcall from public;
