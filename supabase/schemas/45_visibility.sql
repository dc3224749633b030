-- Module: presence
-- How the server queries row-level security for many viewers, which tables visibility depends on, and how DBAs look at
-- it. Nothing here decides who sees whom.

-- For each viewer, as that viewer: which of its relations and followed users it sees. With p_full[i] all of them,
-- otherwise those in p_scope. A policy that raises for one viewer yields one row with `error` for that viewer only.
--   p_follow and p_scope hold the viewers' lists one after the other; p_*_end[i] is where the i-th list ends.
-- Returns up to three rows per viewer with candidates, one for each face that it sees of them and one (face is null)
-- for those of whom it sees none; and one row per conversation in which the viewer may see users type, who are in
-- `related`. Half a second after the start no further viewer is queried: the next one has one row with the error
-- `later`, and those after it have none. So viewers with many relations do not use up the timeout of the statement
-- together.
-- Stable, so that all viewers are queried in the snapshot of the calling statement, which reads the faces too.
-- Invoker: it assumes the viewers' roles, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies: each viewer's role sets its own.
-- Over 60 lines: two result sets and the error row share the role.
create function rollcall_internal.visible_users(
  p_role text[], p_claims text[], p_full boolean[],
  p_follow uuid[], p_follow_end int[], p_scope uuid[], p_scope_end int[]
) returns table (
  viewer int, face rollcall.presence_face, related uuid[], followed uuid[], conversation_id text, id_is_number boolean,
  error text
)
  language plpgsql stable security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  -- Of each role once, before any role is assumed.
  v_paths constant pg_catalog.text[] := array(
    select p.path
    from pg_catalog.unnest(p_role) with ordinality as o (role, place)
    join (
      select d.role, rollcall.role_search_path(d.role) as path
        from (select distinct pg_catalog.unnest(p_role) as role) d offset 0
    ) p using (role)
    order by o.place
  );
  v_last_start constant pg_catalog.timestamptz := clock_timestamp() + interval '500 milliseconds';
  v_full boolean;
  v_follow pg_catalog.uuid[];
  v_scope pg_catalog.uuid[];
begin
  for i in 1 .. pg_catalog.cardinality(p_role) loop
    if i > 1 and clock_timestamp() > v_last_start then
      return query select i, null::rollcall.presence_face, null::pg_catalog.uuid[], null::pg_catalog.uuid[],
        null::pg_catalog.text, null::boolean, 'later'::pg_catalog.text;
      exit;
    end if;
    v_full := p_full[i];
    v_follow := p_follow[coalesce(p_follow_end[i - 1], 0) + 1 : p_follow_end[i]];
    v_scope := p_scope[coalesce(p_scope_end[i - 1], 0) + 1 : p_scope_end[i]];
    begin
      perform set_config('role', p_role[i], true), set_config('request.jwt.claims', p_claims[i], true),
        set_config('search_path', v_paths[i], true);
      return query
        select i, p.face, pg_catalog.array_agg(candidate.id) filter (where candidate.related),
          pg_catalog.array_agg(candidate.id) filter (where not candidate.related), null::pg_catalog.text, null::boolean,
          null::pg_catalog.text
        from (
          select either.id, bool_or(either.related) as related
          from (
            select r.id, true as related from rollcall.my_relations() as r (id)
            union all
            select f.id, false from pg_catalog.unnest(v_follow) as f (id)
          ) either
          where v_full or either.id = any (v_scope)
          group by either.id
        ) candidate
        left join rollcall.user_presence p on p.user_id = candidate.id
        group by p.face;
      return query
        select i, null::rollcall.presence_face, pg_catalog.array_agg(t.user_id), null::pg_catalog.uuid[],
          t.conversation_id, t.id_is_number, null::pg_catalog.text
        from rollcall.my_conversation_ids() as mine (id)
        join rollcall.typing_indicators t on t.conversation_id = mine.id
        where v_full or t.user_id = any (v_scope)
        group by t.conversation_id, t.id_is_number;
    exception when others then
      return query select i, null::rollcall.presence_face, null::pg_catalog.uuid[], null::pg_catalog.uuid[],
        null::pg_catalog.text, null::boolean, sqlstate::pg_catalog.text;
    end;
  end loop;
  perform set_config('role', 'none', true), set_config('request.jwt.claims', '', true),
    set_config('search_path', v_own_path, true);
end
$$;
comment on function rollcall_internal.visible_users is
  'Whom each of several viewers sees, queried with that viewers role and claims.';

-- The faces of these users, the n-th face of the n-th user. By nested loops over the primary key whatever the
-- statistics say: PostgreSQL overestimates how many users a viewer sees, and a hash join would read all faces.
-- Stable: see visible_users.
-- Invoker: only the server calls it.
create function rollcall_internal.stored_faces(p_users uuid[], p_faces rollcall.presence_face[])
  returns setof rollcall.user_presence
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan set jit = off
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
  return query
    select p.*
    from unnest(p_users, p_faces) as shown (user_id, face)
    join rollcall.user_presence p on p.user_id = shown.user_id and p.face = shown.face;
end
$$;
comment on function rollcall_internal.stored_faces is 'Faces of some users, by index.';

-- Followed tables -----------------------------------------------------------------------------------------------------

-- Definer: see invalidate_visibility.
create function rollcall_internal.on_watched_table_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.note_visibility_change(null, null, tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_watched_table_changed is
  'Trigger function: a changed table that policies read invalidates all visibility.';

-- Arguments: the columns that matter. Trigger arguments do not depend on columns, so these can be dropped and altered.
-- Definer: see note_visibility_change. Column names come from the catalog.
create function rollcall_internal.on_watched_columns_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_after text[];
  v_void text;
begin
  begin
    -- Triggers read virtual generated columns as null.
    if not rollcall_internal.has_virtual_column(tg_relid, tg_argv) then
      execute rollcall_internal.transitions_as_text(tg_argv) into v_before, v_after;
      if v_before is not distinct from v_after then
        return null;
      end if;
    end if;
  exception when others then
    -- An error here must not fail the statement of the application.
    null;
  end;
  v_void := rollcall_internal.note_visibility_change(null, null, tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_watched_columns_changed is
  'Trigger function: changed values of columns that policies read invalidate all visibility.';

-- p_pair names the columns of viewer and subject, '' for none; p_viewers and p_subjects are their values in the changed
-- rows, as text. With a join (see users_joined), the first column is the joined one. Rows that are not known, and more
-- than 10,000, may concern everybody. A loop, because a query costs more than the few rows of most statements.
-- Invoker, with the search_path of its caller: see note_visibility_change.
create function rollcall_internal.note_changed_rows(
  p_pair text[], p_join text, p_viewers text[], p_subjects text[], p_are_known boolean, p_source text
) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_values pg_catalog.text[];
  v_viewer pg_catalog.uuid;
  v_subject pg_catalog.uuid;
  v_viewers pg_catalog.uuid[] := '{}';
  v_subjects pg_catalog.uuid[] := '{}';
  v_void pg_catalog.text;
begin
  if p_are_known is not true or pg_catalog.cardinality(p_viewers) > 10000 then
    v_void := rollcall_internal.note_visibility_change(null, null, p_source);
    return;
  end if;
  if p_join <> '' then
    v_values := array(select distinct v.value from pg_catalog.unnest(p_viewers) as v (value) where v.value is not null);
    if v_values <> '{}' then
      v_void := rollcall_internal.note_joined_change(p_join, v_values, p_source);
    end if;
    return;
  end if;
  for v_at in 1 .. pg_catalog.cardinality(p_viewers) loop
    v_viewer := rollcall_internal.text_as_uuid(p_viewers[v_at]);
    v_subject := rollcall_internal.text_as_uuid(p_subjects[v_at]);
    -- A null in a column of the pair equals nobody.
    if (p_pair[1] = '' or v_viewer is not null) and (p_pair[2] = '' or v_subject is not null) then
      v_viewers := v_viewers || v_viewer;
      v_subjects := v_subjects || v_subject;
    end if;
  end loop;
  if pg_catalog.cardinality(v_viewers) > 1 then
    v_viewers := array(select distinct v.id from pg_catalog.unnest(v_viewers) as v (id));
    v_subjects := array(select distinct s.id from pg_catalog.unnest(v_subjects) as s (id));
  end if;
  if v_viewers <> '{}' then
    v_void := rollcall_internal.note_policy_change(
      case when p_pair[1] <> '' then v_viewers end, case when p_pair[2] <> '' then v_subjects end, p_source);
  end if;
end
$$;
comment on function rollcall_internal.note_changed_rows is
  'Appends to the visibility log whom the changed rows of a watched table concern.';

-- Arguments: the columns of viewer and subject of each pair as in concerned_columns and its join, '' for none. There is
-- no dynamic SQL, because it is planned each time. An error while rows are read must not fail the statement of the
-- application: everything is invalidated instead.
-- Definer: see note_visibility_change.
create function rollcall_internal.on_watched_rows_added_or_removed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text[];
  v_viewers text[];
  v_subjects text[];
  v_are_known boolean;
  v_void text;
begin
  for v_at in 0 .. tg_nargs - 1 by 3 loop
    v_pair := array[tg_argv[v_at], tg_argv[v_at + 1]];
    begin
      if tg_op = 'INSERT' then
        select array_agg(n.fields ->> v_pair[1]), array_agg(n.fields ->> v_pair[2]),
            bool_and(n.fields ?& array_remove(v_pair, ''))
          into v_viewers, v_subjects, v_are_known
        from (select to_jsonb(r) as fields from new_rows r limit 10001) n;
      else
        select array_agg(o.fields ->> v_pair[1]), array_agg(o.fields ->> v_pair[2]),
            bool_and(o.fields ?& array_remove(v_pair, ''))
          into v_viewers, v_subjects, v_are_known
        from (select to_jsonb(r) as fields from old_rows r limit 10001) o;
      end if;
      -- Null without rows.
      exit when v_are_known is null;
    exception when others then
      v_are_known := false;
    end;
    v_void := rollcall_internal.note_changed_rows(v_pair, tg_argv[v_at + 2], v_viewers, v_subjects, v_are_known,
      tg_table_schema || '.' || tg_table_name);
  end loop;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_rows_added_or_removed is
  'Trigger function: rows of a table that policies read invalidate visibility of the users whom they concern.';

-- Arguments: the number of pairs, the pairs as in on_watched_rows_added_or_removed, and the columns that matter. In a
-- statement that changes more than 1,000 rows, an update of these columns invalidates everything.
-- Definer: see note_visibility_change. Column names come from the catalog.
create function rollcall_internal.on_watched_rows_updated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs integer := 1;
  v_pair text[];
  v_before text[];
  v_after text[];
  v_viewers text[];
  v_subjects text[];
  v_are_known boolean := false;
  v_void text;
begin
  -- An error here must not fail the statement of the application.
  begin
    v_pairs := tg_argv[0];
    if not rollcall_internal.has_virtual_column(tg_relid, tg_argv[1 : tg_nargs - 1]) then
      execute rollcall_internal.transitions_as_text(tg_argv[3 * v_pairs + 1 : tg_nargs - 1]) into v_before, v_after;
      if v_before is not distinct from v_after then
        return null;
      end if;
      v_are_known := cardinality(v_after) <= 1000;
    end if;
  exception when others then
    v_are_known := false;
  end;
  for v_at in 1 .. case when v_are_known then v_pairs else 1 end loop
    v_pair := array[tg_argv[3 * v_at - 2], tg_argv[3 * v_at - 1]];
    begin
      if v_are_known then
        select array_agg(c.fields ->> v_pair[1]), array_agg(c.fields ->> v_pair[2]),
            bool_and(c.fields ?& array_remove(v_pair, ''))
          into v_viewers, v_subjects, v_are_known
        from (
          select to_jsonb(o.r) as fields from (select r, row_number() over () as n from old_rows r) as o (r, n)
          where v_before[o.n] is distinct from v_after[o.n]
          union all
          select to_jsonb(n.r) from (select r, row_number() over () as n from new_rows r) as n (r, n)
          where v_before[n.n] is distinct from v_after[n.n]
        ) c;
      end if;
    exception when others then
      v_are_known := false;
    end;
    v_void := rollcall_internal.note_changed_rows(v_pair, tg_argv[3 * v_at], v_viewers, v_subjects, v_are_known,
      tg_table_schema || '.' || tg_table_name);
  end loop;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_rows_updated is
  'Trigger function: updated rows of a table that policies read invalidate visibility of the users whom they concern.';

-- Makes sockets follow a table; updates count if they change one of these columns, null stands for all. p_pairs names
-- the users whom a row concerns, as in concerned_columns. Returns false if the table was followed before, or if
-- rollcall.watch or rollcall.watch_table (p_is_declared) declared how.
-- Invoker: needs the right to create triggers on that table.
create function rollcall_internal.follow_table(
  p_table regclass, p_columns text[], p_pairs jsonb default null, p_is_declared boolean default false
) returns boolean
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns constant text[] := array(select c.name from unnest(p_columns) c (name) order by c.name);
  v_declared constant text[] := case when p_is_declared then array['declared'] else '{}' end;
  -- Viewer, subject and join of each pair.
  v_sides constant text[] := array(
    select coalesce(pair.sides ->> side.place, '')
    from jsonb_array_elements(p_pairs) with ordinality as pair (sides, place)
    cross join generate_series(0, 2) as side (place)
    order by pair.place, side.place);
  v_is_followed constant boolean := exists (
    select from pg_catalog.pg_trigger t where t.tgrelid = p_table and t.tgname = 'rollcall_watch');
begin
  if exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = p_table and (t.tgname = 'invalidate_after_insert'
      or t.tgname = 'rollcall_watch' and t.tgargs = rollcall_internal.trigger_arguments(array['declared'])
        and not p_is_declared))
  then
    return false;
  end if;
  perform rollcall_internal.set_triggers(p_table, '^rollcall_watch(_insert|_update|_delete)?$', jsonb_build_array(
    jsonb_build_object('name', 'rollcall_watch', 'events', case
        when p_columns is null then 'insert or update or delete or truncate'
        when p_pairs is null then 'insert or delete or truncate'
        else 'truncate' end,
      'function', 'on_watched_table_changed', 'arguments', v_declared),
    -- Without columns, nothing that a policy reads can be updated: the rows alone matter.
    case when p_pairs is null and cardinality(v_columns) > 0 then
      jsonb_build_object('name', 'rollcall_watch_update', 'events', 'update',
        'function', 'on_watched_columns_changed', 'arguments', v_columns) end)
    || case when p_pairs is null then '[]' else jsonb_build_array(
      jsonb_build_object('name', 'rollcall_watch_insert', 'events', 'insert',
        'function', 'on_watched_rows_added_or_removed', 'arguments', v_sides),
      jsonb_build_object('name', 'rollcall_watch_delete', 'events', 'delete',
        'function', 'on_watched_rows_added_or_removed', 'arguments', v_sides),
      jsonb_build_object('name', 'rollcall_watch_update', 'events', 'update', 'function', 'on_watched_rows_updated',
        'arguments', (cardinality(v_sides) / 3)::text || v_sides || v_columns)) end);
  return not v_is_followed;
end
$$;
comment on function rollcall_internal.follow_table is
  'Makes sockets follow rows, and updates of some columns, of a table that decides who sees whom.';

-- Tables that policies mention are followed automatically; call it for a table that only the text of a function names.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_table(p_table regclass) returns boolean
  language sql security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.follow_table(p_table, null, null, true)
$$;
comment on function rollcall.watch_table is
  'Makes sockets follow a table that decides who sees whom; false when it is followed already.';
grant execute on function rollcall.watch_table to service_role;

-- Functions of Rollcall are not examined: triggers on its tables know the users concerned.
-- Definer: reads catalogs only.
create function rollcall.visibility_sources() returns setof regclass
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.policy_sources('visibility')
$$;
comment on function rollcall.visibility_sources is 'Tables that decide who sees whom.';

-- Then every change of a face may change who sees it, and each change is queried again.
-- Definer: reads catalogs only.
create function rollcall_internal.policies_read_state() returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = 'rollcall.user_presence'::regclass
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
comment on function rollcall_internal.policies_read_state is
  'Whether policies on user_presence read more of a row than user and face.';

-- Definer: the owner may create triggers on tables that it owns; doctor reports the others.
create function rollcall.watch_visibility_sources() returns setof regclass
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_columns text[];
begin
  -- One analysis at a time, so that each sees what the others committed.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.watch_sources', 0));
  perform rollcall_internal.examine_policies('visibility');
  for v_table in select s from rollcall.visibility_sources() s loop
    v_columns := rollcall_internal.columns_in_policies('visibility', v_table);
    begin
      if rollcall_internal.follow_table(v_table, v_columns,
        rollcall_internal.concerned_columns('visibility', v_table, v_columns))
      then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open sockets only with the next full look', v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_visibility_sources();', v_table,
          current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_visibility_sources is
  'Follows every table that visibility depends on; returns the tables that were added.';

-- Arguments: the columns of viewer and subject, '' for none.
-- Definer: see invalidate_visibility. rollcall.watch sets the column names.
create function rollcall_internal.on_watched_pairs_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_viewers uuid[];
  v_subjects uuid[];
  v_any boolean;
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
  v_void text;
begin
  execute format(
    'select count(*) > 0, %s, %s from (%s) changed',
    case tg_argv[0] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')',
        tg_argv[0]) end,
    case tg_argv[1] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')',
        tg_argv[1]) end,
    v_rows) into v_any, v_viewers, v_subjects;
  if v_any and v_viewers is distinct from '{}' and v_subjects is distinct from '{}' then
    v_void := rollcall_internal.note_policy_change(v_viewers, v_subjects, tg_table_schema || '.' || tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_pairs_changed is
  'Trigger function: changed rows of a followed table invalidate visibility between the users they name.';

-- Null for a column stands for all viewers or all subjects. For tables of which Rollcall cannot derive from policies
-- whom a row concerns. Use it only for tables whose rows concern no other users. A later declaration replaces it.
-- Invoker: needs to own the table, to replace triggers.
create function rollcall.watch(p_table regclass, p_viewer_column name, p_subject_column name) returns void
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_column name;
begin
  if p_viewer_column is null and p_subject_column is null then
    raise exception 'at least one of viewer column and subject column is required' using
      errcode = 'invalid_parameter_value', hint = format('For neither: select rollcall.watch_table(%L);',
        p_table::text);
  end if;
  foreach v_column in array array[p_viewer_column, p_subject_column] loop
    if v_column is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_table and a.attname = v_column and a.attnum > 0 and not a.attisdropped
        and a.atttypid = 'uuid'::regtype
    ) then
      raise exception '% has no column % of type uuid', p_table, quote_ident(v_column)
        using errcode = 'undefined_column';
    end if;
  end loop;
  if exists (
    select from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
    where t.tgrelid = p_table and t.tgname = 'invalidate_after_insert' and f.proname <> 'on_watched_pairs_changed'
  ) then
    raise exception '% is a table of Rollcall, which sockets follow already', p_table
      using errcode = 'object_not_in_prerequisite_state';
  end if;

  perform rollcall_internal.set_triggers(p_table, '^rollcall_watch(_insert|_update|_delete)?$', '[]');
  perform rollcall_internal.set_triggers(p_table, '^invalidate_after_(insert|update|delete|truncate)$', (
    select jsonb_agg(jsonb_build_object('name', 'invalidate_after_' || e.event, 'events', e.event,
      'function', 'on_watched_pairs_changed',
      'arguments', array[coalesce(p_viewer_column, ''), coalesce(p_subject_column, '')]::text[]))
    from unnest(array['insert', 'update', 'delete']) as e (event))
    || jsonb_build_array(jsonb_build_object('name', 'invalidate_after_truncate', 'events', 'truncate',
      'function', 'on_watched_table_changed', 'arguments', '{}'::text[])));
end
$$;
comment on function rollcall.watch is
  'Declares which columns of a table name viewer and subject, so that only these users are queried again.';
grant execute on function rollcall.watch to service_role;

-- Changes of policies -------------------------------------------------------------------------------------------------

-- Catalog rows are read with the snapshot of the statement, so a reader compares it with the faces of the same
-- snapshot.
-- Definer: reads catalogs only.
create function rollcall_internal.policy_fingerprint() returns bigint
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(hashtextextended(part, 0) % 4294967296), 0)::bigint
  from (
    select p.oid::text || p.xmin::text as part from pg_catalog.pg_policy p
    union all
    select c.oid::text || c.relrowsecurity::text || c.relforcerowsecurity::text || coalesce(c.relacl::text, '')
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace s on s.oid = c.relnamespace and s.nspname !~ '^pg_'
      and s.nspname <> 'information_schema'
    where c.relkind in ('r', 'p', 'v', 'm')
    union all
    -- A view may be replaced.
    select r.oid::text || r.xmin::text from pg_catalog.pg_rewrite r where r.ev_class >= 16384
    union all
    select f.oid::text || f.xmin::text from pg_catalog.pg_proc f
    where f.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  ) as parts
$$;
comment on function rollcall_internal.policy_fingerprint is
  'One number for everything in the catalogs that visibility depends on.';

-- Definer: runs for any role that issues DDL.
create function rollcall_internal.on_ddl() returns event_trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  -- Objects of Rollcall may be missing while they are dropped together.
  if to_regclass('rollcall_internal.visibility_log') is null or to_regclass('rollcall.user_presence') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE', 'ALTER ROUTINE', 'DROP ROUTINE',
      'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
      'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE', 'DROP TYPE', 'DROP SCHEMA',
      'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    if tg_tag in ('DROP TABLE', 'ALTER TABLE', 'DROP SCHEMA', 'ALTER SCHEMA', 'DROP OWNED', 'DROP EXTENSION')
      and exists (select from rollcall_internal.own_tables)
    then
      perform rollcall_internal.refresh_own_tables();
    end if;
    v_void := rollcall_internal.note_visibility_change(null, null, lower(tg_tag));
  end if;
  if tg_tag = 'CREATE PUBLICATION' then
    perform rollcall_internal.publish_presence();
  end if;
  -- A partition of a table in use, which is followed too.
  if tg_tag = 'CREATE TABLE' and exists (
    select from pg_catalog.pg_event_trigger_ddl_commands() c
    join pg_catalog.pg_inherits i on i.inhrelid = c.objid
    where exists (select from rollcall_internal.own_tables))
  then
    perform rollcall_internal.refresh_own_tables();
  end if;
  -- A table may be created after the function that reads it.
  if tg_tag = any (rollcall_internal.tags_of_new_dependencies())
    and rollcall_internal.ddl_concerns_policies('visibility')
  then
    perform rollcall.watch_visibility_sources();
  end if;
end
$$;
comment on function rollcall_internal.on_ddl is
  'Event trigger function: DDL invalidates all visibility; follows new tables and publications.';

-- Views and explanations ----------------------------------------------------------------------------------------------

-- Invoker: shows what the policies on user_presence show.
create view rollcall.online with (security_invoker = true) as
  select distinct on (p.user_id)
    p.user_id, p.status, p.reach, p.custom_status, p.activity, p.current_page, p.last_seen, p.idle_since
  from rollcall.user_presence p
  where p.reach <> 'offline'
  order by p.user_id, p.face desc;
comment on view rollcall.online is
  'Users that are online, one row each, as the current role sees them: the owner and service_role see the trusted '
  'face.';
revoke all on rollcall.online from anon, authenticated, service_role;
grant select on rollcall.online to authenticated, service_role;

-- Invoker: shows what the policies on presence_devices show.
create view rollcall.online_devices with (security_invoker = true) as
  select
    d.user_id, d.device_id, d.device_name, d.device_type, d.platform, d.app_version, d.status,
    rollcall.any_node_lives(d.nodes) as connected, d.session_started_at, d.last_heartbeat_at, d.last_active_at,
    d.idle_since, d.activity, d.current_page
  from rollcall.presence_devices d
  where d.live;
comment on view rollcall.online_devices is
  'Live devices; connected ones hold a socket, the others live on heartbeats. Users see their own.';
revoke all on rollcall.online_devices from anon, authenticated, service_role;
grant select on rollcall.online_devices to authenticated, service_role;

-- The first of these that applies. explain_visibility uses it after it has evaluated the policies.
-- Definer: reads blocks, lists and settings of all users; service_role only.
-- Over 60 lines: one case after the other, in the order of the policies.
create function rollcall.visibility_evidence(p_viewer uuid, p_subject uuid)
  returns table (allows boolean, decided_by text, evidence jsonb, reason text)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_row record;
  v_setting rollcall.presence_visibility;
  v_default boolean := false;
  v_own jsonb;
  v_counts boolean;
begin
  if p_viewer = p_subject then
    return query select true, 'self', null::jsonb, 'users see their own trusted face';
    return;
  end if;

  v_own := rollcall_internal.own_evidence('blocks', p_viewer, p_subject);
  if v_own is not null and exists (select from rollcall_internal.blocks_between(p_viewer, p_subject)) then
    return query select false, 'block', v_own, 'one of them has blocked the other; a block beats everything else';
    return;
  end if;
  select b.* into v_row from rollcall.blocks b
    where (b.blocker_id, b.blocked_id) in ((p_viewer, p_subject), (p_subject, p_viewer)) and v_own is null
    order by b.blocker_id = p_viewer desc limit 1;
  if found then
    return query select false, 'block', jsonb_build_object('table', 'blocks', 'row', to_jsonb(v_row)),
      case when v_row.blocker_id = p_viewer then 'the viewer has blocked the subject'
        else 'the subject has blocked the viewer' end
        || '; a block beats everything else';
    return;
  end if;

  select l.* into v_row from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = p_viewer;
  if found then
    return query select true, 'list', jsonb_build_object('table', 'presence_visibility_list', 'row', to_jsonb(v_row)),
      'the viewer is on the subject''s visibility list, and so sees the trusted face, whatever the settings';
    return;
  end if;

  select s.visibility into v_setting from rollcall.presence_settings s where s.user_id = p_subject;
  if not found then
    v_setting := 'contacts';
    v_default := true;
  end if;
  if v_setting in ('nobody', 'everyone') then
    return query select v_setting = 'everyone', 'setting',
      jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting),
      format('the subject shows the public face to %s', v_setting);
    return;
  end if;

  v_own := rollcall_internal.own_evidence(case v_setting when 'contacts' then 'contacts' else 'team_members' end,
    p_viewer, p_subject);
  if v_own is not null then
    v_counts := case v_setting
      when 'contacts' then exists (select from rollcall_internal.contacts_of(p_viewer) as c (id) where c.id = p_subject)
      else exists (select from rollcall_internal.team_mates_of(p_viewer) as t (id) where t.id = p_subject) end;
    if v_counts or v_own ->> 'row' is not null then
      return query select v_counts, case v_setting when 'contacts' then 'contact' else 'team' end, v_own,
        format('%s relates them%s, and the subject shows the public face to %s', v_own ->> 'table',
          case when v_counts then '' else ', but its condition does not hold' end,
          case v_setting when 'team' then 'team mates' else 'contacts' end);
      return;
    end if;
  elsif v_setting = 'contacts' then
    select c.* into v_row from rollcall.contacts c
      where (c.requester_id, c.addressee_id) in ((p_viewer, p_subject), (p_subject, p_viewer))
      order by c.accepted_at is not null desc limit 1;
    if found then
      return query select v_row.accepted_at is not null, 'contact',
        jsonb_build_object('table', 'contacts', 'row', to_jsonb(v_row)),
        case when v_row.accepted_at is null
          then 'they are to be contacts, but nobody has accepted yet; the subject shows the public face to contacts'
          else 'they are contacts, and the subject shows the public face to contacts' end;
      return;
    end if;
  else
    select theirs.*, mine.accepted_at is not null and theirs.accepted_at is not null as counts into v_row
    from rollcall.team_members mine
    join rollcall.team_members theirs using (team_id)
    where mine.user_id = p_viewer and theirs.user_id = p_subject
    order by counts desc, theirs.team_id limit 1;
    if found then
      return query select v_row.counts, 'team', jsonb_build_object('table', 'team_members', 'row',
        to_jsonb(v_row) - 'counts'),
        case when v_row.counts then 'they share a team, and the subject shows the public face to team mates'
          else 'they would share a team, but one of them has not accepted; '
            'the subject shows the public face to team mates' end;
      return;
    end if;
  end if;
  return query select false, 'setting',
    jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting, 'default', v_default),
    format('the subject shows the public face to %s, and the viewer is none', case v_setting when 'team'
      then 'team mates' else 'contacts' end);
end
$$;
comment on function rollcall.visibility_evidence is
  'The rows and settings by which Rollcalls own policies decide between two users.';
grant execute on function rollcall.visibility_evidence to service_role;

-- One row per face that the viewer sees, or one row with `visible` false.
--   decided_by  self, block, list, setting, contact, team: by Rollcall's own policies, with the row or setting in
--               `evidence`;
--               policy: by another one, named in `policy`; never_seen: there is no face; grant: the role may not read;
--               error: a policy raised; row_level_security: it is switched off
--   policy      the policies that allow it, or the restrictive one that forbids it
-- Each policy is evaluated alone, as the viewer, on the subject's row. The result is what `select` as the viewer
-- returns; where the two differ, `decided_by` is `policy` and `policy` is null.
-- Invoker: it assumes the viewer's role, which the session's login role must be a member of. Without a search_path of
-- its own, because it evaluates users' policies.
-- Over 60 lines: one case after the other.
create function rollcall.explain_visibility(p_viewer uuid, p_subject uuid, p_claims jsonb default '{}')
  returns table (visible boolean, face rollcall.presence_face, decided_by text, policy text, evidence jsonb,
    reason text)
  language plpgsql volatile security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_path constant pg_catalog.text := rollcall.role_search_path('authenticated');
  v_role constant pg_catalog.text := current_setting('role');
  v_claims constant pg_catalog.text := coalesce(current_setting('request.jwt.claims', true), '');
  v_ours constant pg_catalog.text[] := array['users read their trusted face', 'viewers read the face shown to them'];
  v_row rollcall.user_presence;
  v_policy record;
  v_seen rollcall.presence_face[];
  v_verdict boolean;
  v_allows pg_catalog.text[];
  v_forbids pg_catalog.text[];
  v_using pg_catalog.jsonb;
  v_fact record;
begin
  if not coalesce((select c.relrowsecurity from pg_catalog.pg_class c
    where c.oid = 'rollcall.user_presence'::pg_catalog.regclass), false)
  then
    return query select true, p.face, 'row_level_security', null::pg_catalog.text, null::pg_catalog.jsonb,
      'row-level security on user_presence is off: everybody who may read the table sees every face'
      from rollcall.user_presence p where p.user_id = p_subject;
    return;
  end if;

  -- What `select` as the viewer returns.
  begin
    perform set_config('request.jwt.claims',
        (p_claims || pg_catalog.jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::pg_catalog.text, true),
      set_config('search_path', v_path, true), set_config('role', 'authenticated', true);
    v_seen := array(select p.face from rollcall.user_presence p where p.user_id = p_subject order by p.face);
    perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true),
      set_config('search_path', v_own_path, true);
  exception when insufficient_privilege then
    return query select false, null::rollcall.presence_face, 'grant', null::pg_catalog.text, null::pg_catalog.jsonb,
      sqlerrm;
    return;
  when others then
    return query select false, null::rollcall.presence_face, 'error', null::pg_catalog.text,
      pg_catalog.jsonb_build_object('sqlstate', sqlstate), sqlerrm;
    return;
  end;

  select e.* into v_fact from rollcall.visibility_evidence(p_viewer, p_subject) e;
  if not exists (select from rollcall.user_presence p where p.user_id = p_subject) then
    return query select false, null::rollcall.presence_face, 'never_seen', null::pg_catalog.text,
      null::pg_catalog.jsonb, 'the subject was never here: there is nothing to see';
    return;
  end if;

  for v_row in
    select p.* from rollcall.user_presence p
    where p.user_id = p_subject and (p.face = any (v_seen) or v_seen = '{}')
    order by p.face
  loop
    v_allows := '{}';
    v_forbids := '{}';
    v_using := '{}';
    for v_policy in
      select l.polname::pg_catalog.text as name, l.polpermissive as permissive,
        pg_catalog.pg_get_expr(l.polqual, l.polrelid) as expression
      from pg_catalog.pg_policy l
      where l.polrelid = 'rollcall.user_presence'::pg_catalog.regclass and l.polcmd in ('r', '*')
        and exists (select from pg_catalog.unnest(l.polroles) r where r = 0 or pg_catalog.pg_has_role('authenticated',
          r, 'usage'))
      order by l.polname
    loop
      begin
        perform set_config('request.jwt.claims',
            (p_claims || pg_catalog.jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::pg_catalog.text,
              true),
          set_config('search_path', v_path, true), set_config('role', 'authenticated', true);
        -- Under the table's name, which the expression uses.
        execute pg_catalog.format('select (%s) from (select ($1::rollcall.user_presence).*) as user_presence',
          v_policy.expression)
          into v_verdict using v_row;
        perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true),
          set_config('search_path', v_own_path, true);
      exception when others then
        v_verdict := null;
      end;
      if v_policy.permissive and v_verdict then
        v_allows := v_allows || v_policy.name;
        v_using := v_using || pg_catalog.jsonb_build_object(v_policy.name, v_policy.expression);
      elsif not v_policy.permissive and v_verdict is not true then
        v_forbids := v_forbids || v_policy.name;
        v_using := v_using || pg_catalog.jsonb_build_object(v_policy.name, v_policy.expression);
      end if;
    end loop;

    if v_row.face = any (v_seen) then
      if v_allows && v_ours and v_fact.allows then
        return query select true, v_row.face, v_fact.decided_by, pg_catalog.array_to_string(v_allows, ', '),
          v_fact.evidence,
          v_fact.reason;
      else
        return query select true, v_row.face, 'policy', nullif(pg_catalog.array_to_string(v_allows, ', '), ''), v_using,
          case when v_allows = '{}' then 'row-level security allows it; which policy cannot be told from outside'
            else pg_catalog.format('allowed by the policy %s', pg_catalog.array_to_string(v_allows, ', ')) end;
      end if;
    elsif v_allows <> '{}' then
      return query select false, null::rollcall.presence_face, 'policy', nullif(pg_catalog.array_to_string(v_forbids,
        ', '), ''),
        v_using,
        pg_catalog.format('the policy %s would allow it, but the restrictive policy %s does not',
          pg_catalog.array_to_string(v_allows, ', '), coalesce(nullif(pg_catalog.array_to_string(v_forbids, ', '), ''),
            'that cannot be told from outside'));
      return;
    end if;
  end loop;

  if v_seen = '{}' then
    if v_fact.allows and exists (
      select from rollcall.user_presence p
      where p.user_id = p_subject
        and p.face = (case when v_fact.decided_by in ('self', 'list') then 'trusted'
          else 'public' end)::rollcall.presence_face
    ) then
      -- Rollcall's own policy would allow it; it was changed or dropped.
      return query select false, null::rollcall.presence_face, 'policy', null::pg_catalog.text, v_fact.evidence,
        'no policy allows it';
    else
      return query select false, null::rollcall.presence_face, v_fact.decided_by, null::pg_catalog.text,
        v_fact.evidence,
        v_fact.reason || case when v_fact.allows then '; but there is no such face to see' else '' end;
    end if;
  end if;
end
$$;
comment on function rollcall.explain_visibility is
  'What a viewer sees of a subject, and which block, list, setting, relation or policy decides it.';
grant execute on function rollcall.explain_visibility to service_role;
