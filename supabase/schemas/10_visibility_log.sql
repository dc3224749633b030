-- How the database notifies servers of changes of presence and of who may see whom. A notification carries ids, never
-- content. What may be seen is read again under row-level security, and every change of visibility is in
-- rollcall_internal.visibility_log in the transaction that made it.

-- A reader that takes faces and this log in one snapshot knows whether the results of row-level security that it
-- cached are as new as the faces. Unlogged: after a crash every node starts without a cache.
create unlogged table rollcall_internal.visibility_log (
  id bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  viewers uuid[],
  subjects uuid[],
  reason text not null,
  noted_at timestamptz not null default now()
);
comment on table rollcall_internal.visibility_log is
  'Which viewers must be queried again about which subjects; null stands for all. Kept for two minutes. Unlogged.';
create index visibility_log_xid on rollcall_internal.visibility_log (xid);
-- For face_was_deleted.
create index visibility_log_deleted_faces on rollcall_internal.visibility_log (id) where reason = 'face deleted';
-- No policies: only the server reads it.
alter table rollcall_internal.visibility_log enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.visibility_log', 'viewers', false, null, 'ids only, deleted after two minutes'),
  ('rollcall_internal.visibility_log', 'subjects', false, null, 'ids only, deleted after two minutes');

-- IDs of transactions, positions in the log and sequences go back when a standby is promoted or a backup is restored.
-- Definer: called by the server.
create function rollcall_internal.cluster_identity() returns text
  language sql volatile security definer set search_path = ''
as $$
  select c.system_identifier || ':'
    || case when pg_is_in_recovery() then 'standby' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end
  from pg_control_system() c
$$;
comment on function rollcall_internal.cluster_identity is
  'The cluster and its timeline; numbers that were read under another identity cannot be compared.';

-- Records that what these viewers see of these subjects may have changed; null stands for all. More than 1,000 users
-- are recorded as all, which costs less than the list.
-- Invoker, with the search_path of its caller, because it costs less in the transactions of applications: only definer
-- functions call it.
create function rollcall_internal.note_visibility_change(p_viewers uuid[], p_subjects uuid[], p_reason text)
  returns void
  language plpgsql volatile security invoker
as $$
begin
  insert into rollcall_internal.visibility_log (viewers, subjects, reason)
  values (
    case when pg_catalog.cardinality(p_viewers) <= 1000 then p_viewers end,
    case when pg_catalog.cardinality(p_subjects) <= 1000 then p_subjects end,
    p_reason
  );
  -- Equal payloads of one transaction are sent once.
  perform rollcall_internal.notify('rollcall_visibility', '');
end
$$;
comment on function rollcall_internal.note_visibility_change is
  'Appends to the visibility log and notifies the nodes; null stands for all.';

-- Definer: appends to a table that no API role may write.
create function rollcall.invalidate_visibility(p_viewers uuid[], p_subjects uuid[], p_reason text) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall_internal.note_visibility_change(p_viewers, p_subjects, p_reason);
end
$$;
comment on function rollcall.invalidate_visibility is
  'Makes every node query row-level security again for these viewers and subjects; null stands for all.';
grant execute on function rollcall.invalidate_visibility to service_role;

-- Sends ids as notifications of the form `<ms since 1970>|<id>,<id>…`, at most 200 ids each, because a payload is
-- limited to 8,000 bytes.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_ids(p_channel text, p_ids uuid[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_nonce text;
begin
  for v_first in 1 .. coalesce(cardinality(p_ids), 0) by 200 loop
    v_nonce := rollcall_internal.notification_nonce();
    perform rollcall_internal.notify(p_channel, rollcall_internal.notification_time() || '|'
      || array_to_string(rollcall_internal.mask_ids(v_nonce, p_ids[v_first : v_first + 199]), ','), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_ids is 'Sends ids as notifications, at most 200 per payload.';

-- Trigger functions ---------------------------------------------------------------------------------------------------

-- TRUNCATE has no transition tables, so all visibility is invalidated.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_truncated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall_internal.note_visibility_change(null, null, 'truncate ' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_truncated is 'Trigger function: a truncated table invalidates all visibility.';

-- Rows that name one subject: invalidates what every viewer sees of it.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_subjects_changed() returns trigger
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
    perform rollcall_internal.note_visibility_change(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_subjects_changed is
  'Trigger function: changed rows invalidate what anyone sees of their users.';

-- Members of a group: invalidates visibility between the members that changed and all members of their groups.
-- Arguments: the column that names the group.
-- Definer: see invalidate_visibility. The column name is a trigger argument from this schema only.
create function rollcall_internal.on_members_changed() returns trigger
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
    'select array(select m.user_id from rollcall.%I m where m.%I in (select changed.%2$I from (%3$s) changed) '
    'union select unnest($1))',
    tg_table_name, tg_argv[0], v_rows) into v_others using v_moved;
  perform rollcall_internal.note_visibility_change(v_others, v_moved, tg_table_name);
  perform rollcall_internal.note_visibility_change(v_moved, v_others, tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_members_changed is
  'Trigger function: changed memberships invalidate the visibility within the group.';

-- Whether a user is invisible decides who sees them type. Faces have triggers of their own.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_choices_changed() returns trigger
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
    perform rollcall_internal.note_visibility_change(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_choices_changed is
  'Trigger function: starting or ending invisibility invalidates who sees the user type.';

-- Invoker: writes only the new row.
create function rollcall_internal.set_updated_at() returns trigger
  language plpgsql security invoker set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function rollcall_internal.set_updated_at is 'Trigger function: sets updated_at.';
