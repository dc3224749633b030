-- A DBA's own table, and who of its rows is concerned.
-- Invariant: what a declaration narrows is only who is asked again. Row-level security answers, as ever.

-- The rows that changed name the viewers and subjects whose sight is void. Arguments: the columns, '' for none.
-- Definer: see void_sight. The column names are trigger arguments, set by rollcall.watch only.
create function rollcall.on_watched_pairs_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_viewers uuid[];
  v_subjects uuid[];
  v_any boolean;
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
begin
  execute format(
    'select count(*) > 0, %s, %s from (%s) changed',
    case tg_argv[0] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')', tg_argv[0]) end,
    case tg_argv[1] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')', tg_argv[1]) end,
    v_rows) into v_any, v_viewers, v_subjects;
  if v_any and v_viewers is distinct from '{}' and v_subjects is distinct from '{}' then
    perform rollcall.void_sight(v_viewers, v_subjects, tg_table_schema || '.' || tg_table_name);
  end if;
  return null;
end
$$;

-- Makes a table a source of visibility of which each row concerns the viewer in one column and the subject in the
-- other: when rows change, those are asked again about those, and nobody else about anybody. Null for a column: all
-- viewers, or all subjects. Without this, a change of a table that a policy mentions voids what everybody sees.
-- Say it only of a table whose rows change nobody else's sight. Said again, the later declaration counts.
-- Invoker: needs to own the table, or triggers could not be exchanged.
create function rollcall.watch(p_table regclass, p_viewer_column name, p_subject_column name) returns void
  language plpgsql security invoker set search_path = ''
as $$
declare
  v_column name;
  v_operation record;
begin
  if p_viewer_column is null and p_subject_column is null then
    raise exception 'name the column of the viewer, of the subject, or both' using
      errcode = 'invalid_parameter_value', hint = format('For neither: select rollcall.watch_table(%L);', p_table::text);
  end if;
  foreach v_column in array array[p_viewer_column, p_subject_column] loop
    if v_column is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_table and a.attname = v_column and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype
    ) then
      raise exception '% has no column % of type uuid', p_table, quote_ident(v_column) using errcode = 'undefined_column';
    end if;
  end loop;
  if exists (
    select from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
    where t.tgrelid = p_table and t.tgname = 'void_after_insert' and f.proname <> 'on_watched_pairs_changed'
  ) then
    raise exception '% is a table of Rollcall, which is watched already', p_table using errcode = 'object_not_in_prerequisite_state';
  end if;

  execute format('drop trigger if exists rollcall_watch on %s', p_table);
  for v_operation in
    select * from (values
      ('insert', 'referencing new table as new_rows'),
      ('update', 'referencing old table as old_rows new table as new_rows'),
      ('delete', 'referencing old table as old_rows')
    ) as operation (verb, transitions)
  loop
    execute format('create or replace trigger void_after_%1$s after %1$s on %2$s %3$s for each statement
        execute function rollcall.on_watched_pairs_changed(%4$L, %5$L)',
      v_operation.verb, p_table, v_operation.transitions, coalesce(p_viewer_column, ''), coalesce(p_subject_column, ''));
  end loop;
  execute format('create or replace trigger void_after_truncate after truncate on %s
    for each statement execute function rollcall.on_foreign_source_changed()', p_table);
end
$$;
comment on function rollcall.watch is
  'Says of a table that decides who sees whom which column names the viewer and which the subject: only they are asked again.';
grant execute on function rollcall.watch to service_role;

revoke execute on all functions in schema rollcall from public;
