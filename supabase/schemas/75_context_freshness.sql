-- Module: context
-- No committed change of a source leaves a bundle that looks fresh. A change does two things in its own transaction:
-- it records a row in context_source_changes, and it marks the affected bundles as dirty, queues their compilation and
-- notifies. The recorded row makes it certain: a bundle stores the snapshot in which its sources were read, so every
-- recorded change that this snapshot does not see contradicts it, however transactions interleaved. The flag makes it
-- fast and visible. Recording only inserts: a change waits for no other change and no compilation. Flags of locked
-- bundles are set afterwards (mark_stale_bundles).

create table rollcall_internal.context_source_changes (
  kind text not null,
  user_id uuid,
  key uuid not null,
  refs uuid[],
  xid xid8 not null default pg_current_xact_id(),
  seen_at timestamptz
);
comment on table rollcall_internal.context_source_changes is
  'Recent changes of the sources of the context engine. Deleted some minutes after every bundle was checked.';
comment on column rollcall_internal.context_source_changes.user_id is
  'The user whose bundles are affected; null: bundles of all users about refs.';
comment on column rollcall_internal.context_source_changes.key is
  'Under which bundles look it up: the user; for all users of a conversation, the conversation; else the nil UUID.';
comment on column rollcall_internal.context_source_changes.kind is
  'identity, prefs, memory, topic, label, entity, unit, message, participant, conversation, bundle (invalidated by the '
  'user) or all. Without a check, which costs as much as the insert; an unknown kind counts as all.';
-- The first serves reading a bundle, the second storing one: changes that its snapshot does not see are last per key.
create index context_source_changes_unseen on rollcall_internal.context_source_changes (key) where seen_at is null;
create index context_source_changes_key on rollcall_internal.context_source_changes (key, xid);
create index context_source_changes_seen_at on rollcall_internal.context_source_changes (seen_at)
  where seen_at is not null;
-- No policies: only the server uses it.
alter table rollcall_internal.context_source_changes enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.context_source_changes', 'user_id', false, null, 'ids only, deleted after some minutes');

-- Checking ------------------------------------------------------------------------------------------------------------

-- Repeats every rule that selects sources for a bundle: a missing rule leaves stale bundles, an extra one recompiles
-- in vain.
-- Definer: a change affects bundles of other users, as with a message in a shared conversation.
-- Over 60 lines: one query per kind.
create function rollcall_internal.affected_bundles(p_kind text, p_user uuid, p_refs uuid[]) returns setof uuid
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 5
as $$
begin
  case p_kind
    when 'identity' then
      return query select b.id from rollcall.context_bundles b where b.user_id = p_user
        and b.bundle_type = 'identity_core';
    when 'prefs' then
      return query select b.id from rollcall.context_bundles b where b.user_id = p_user
        and b.bundle_type = 'global_prefs';
    when 'memory' then
      -- In it, or matched by the topic's names.
      return query
        select b.id from rollcall.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'topic'
          and (b.memory_ids && p_refs or exists (
            select from rollcall.memories m, rollcall.topic_profiles t
            where m.id = any (p_refs) and t.id = b.topic_id and m.search @@ t.query));
    when 'topic' then
      return query select b.id from rollcall.context_bundles b where b.topic_id = any (p_refs);
    when 'label' then
      -- Conversations list the labels of their topics.
      return query
        select b.id from rollcall.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'conversation'
          and (b.topic_ids && p_refs or b.conversation_id in (
            select l.conversation_id from rollcall.topic_conversations l where l.topic_id = any (p_refs)));
    when 'entity' then
      return query select b.id from rollcall.context_bundles b where b.entity_id = any (p_refs);
    when 'unit' then
      return query
        select b.id from rollcall.context_bundles b
        where b.user_id = p_user and b.bundle_type in ('topic', 'entity')
          and (b.unit_ids && p_refs
            or b.topic_id in (select l.topic_id from rollcall.topic_units l where l.unit_id = any (p_refs))
            or b.entity_id in (select l.entity_id from rollcall.entity_units l where l.unit_id = any (p_refs)));
    when 'message' then
      return query
        select b.id from rollcall.context_bundles b
        where b.conversation_id = any (p_refs) and (p_user is null or b.user_id = p_user);
    when 'participant' then
      -- Who joins or leaves sees another conversation, and other titles in topics. The links are those that the reader
      -- sees: one may have been committed after the participant was recorded.
      return query
        select b.id from rollcall.context_bundles b where b.user_id = p_user and b.conversation_id = any (p_refs)
        union
        select b.id from rollcall.context_bundles b
        join rollcall.topic_conversations l on l.topic_id = b.topic_id and l.user_id = b.user_id
        where b.user_id = p_user and l.conversation_id = any (p_refs);
    when 'conversation' then
      return query
        select b.id from rollcall.context_bundles b where b.conversation_id = any (p_refs)
        union
        -- Topics list their conversations by title.
        select b.id from rollcall.context_bundles b
        join rollcall.topic_conversations l on l.topic_id = b.topic_id
        where l.conversation_id = any (p_refs);
    when 'bundle' then
      return query select b.id from rollcall.context_bundles b where b.user_id = p_user and b.id = any (p_refs);
    else
      return query select b.id from rollcall.context_bundles b;
  end case;
end
$$;
comment on function rollcall_internal.affected_bundles is
  'Bundles that a change of sources affects, by the snapshot of the caller.';

-- Among all recorded changes, or among those that are not processed yet. The kinds per type only save work;
-- affected_bundles decides.
-- Definer: reads source changes, which API roles may not; tells of a row that the caller has whether it is stale.
create function rollcall_internal.has_newer_source_change(p_bundle rollcall.context_bundles,
  p_only_unseen boolean) returns boolean
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_kinds constant text[] := case p_bundle.bundle_type
    when 'identity_core' then '{all,bundle,identity}'
    when 'global_prefs' then '{all,bundle,prefs}'
    when 'topic' then '{all,bundle,memory,topic,unit,participant,conversation}'
    when 'entity' then '{all,bundle,entity,unit}'
    when 'conversation' then '{all,bundle,label,message,participant,conversation}'
    else '{all,bundle,identity,prefs,memory,topic,label,entity,unit,message,participant,conversation}' end;
  v_keys constant uuid[] :=
    array[p_bundle.user_id, p_bundle.conversation_id, '00000000-0000-0000-0000-000000000000'::uuid];
begin
  -- Restored into another cluster, a snapshot has no meaning.
  if pg_snapshot_xmax(p_bundle.compiled_seeing) > pg_snapshot_xmax(pg_current_snapshot()) then
    return true;
  end if;
  if p_only_unseen then
    return exists (
      select from rollcall_internal.context_source_changes m
      where m.seen_at is null and m.key = any (v_keys) and m.kind = any (v_kinds)
        and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
        and p_bundle.id in (select rollcall_internal.affected_bundles(m.kind, m.user_id, m.refs)));
  end if;
  return exists (
    select from rollcall_internal.context_source_changes m
    where m.key = any (v_keys) and m.xid >= pg_snapshot_xmin(p_bundle.compiled_seeing) and m.kind = any (v_kinds)
      and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
      and p_bundle.id in (select rollcall_internal.affected_bundles(m.kind, m.user_id, m.refs)));
end
$$;
comment on function rollcall_internal.has_newer_source_change is
  'Whether a source change was committed that the compilation of this bundle did not see.';

-- Invoker: computes from its argument.
create function rollcall_internal.bundle_ttl(p_type rollcall.bundle_type) returns interval
  language sql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
  select case p_type
    when 'identity_core' then interval '24 hours'
    when 'global_prefs' then interval '12 hours'
    when 'topic' then interval '4 hours'
    when 'entity' then interval '6 hours'
    else interval '30 minutes' end
$$;
comment on function rollcall_internal.bundle_ttl is 'The longest time that a bundle of a type may be served.';

-- Changes that were processed are dirty flags by now (mark_stale_bundles), and no bundle was stored past them
-- (store_bundles), so only unprocessed ones are examined; most of the time there is none.
-- Definer: see has_newer_source_change.
create function rollcall_internal.is_fresh(p_bundle rollcall.context_bundles) returns boolean
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return not p_bundle.dirty and p_bundle.expires_at > clock_timestamp()
    and exists (
      select from rollcall_internal.context_access() a where a.is_recorded and a.version = p_bundle.access_version)
    and not rollcall_internal.has_newer_source_change(p_bundle, true);
end
$$;
comment on function rollcall_internal.is_fresh is
  'Whether a bundle may be served now: not dirty, not expired, under current policies, no newer source change.';

-- Recording -----------------------------------------------------------------------------------------------------------

-- Skips bundles that are dirty or locked. Notifies even if all were skipped: nodes then process recorded changes.
-- Definer: only the server writes bundles and their queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.flag_bundles(p_bundles uuid[], p_trigger text) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_users pg_catalog.uuid[];
  v_count bigint;
  v_void pg_catalog.text;
begin
  with free as (
    select b.id from rollcall.context_bundles b
    where b.id = any (p_bundles) and not b.dirty
    order by b.id for no key update skip locked
  ),
  flagged as (
    update rollcall.context_bundles b set dirty = true, miss_count = b.miss_count + 1
    from free where b.id = free.id
    returning b.id, b.user_id
  ),
  queued as (
    insert into rollcall.system_actions (user_id, kind, bundle_id, trigger)
    select f.user_id, 'compile', f.id, p_trigger from flagged f
    on conflict (bundle_id) where status = 'pending' and bundle_id is not null do nothing
  )
  select pg_catalog.array_agg(distinct f.user_id), count(*) into v_users, v_count from flagged f;
  -- Also if all were locked: nodes then process recorded changes.
  if v_count > 0 or pg_catalog.cardinality(p_bundles) > 0 then
    v_void := rollcall_internal.notify('rollcall_bundles', 'stale');
  end if;
  return v_count;
end
$$;
comment on function rollcall_internal.flag_bundles is
  'Marks bundles as dirty, counts a miss each and queues their compilation; returns how many.';

-- In a snapshot that began earlier the bundles may have been replaced since: there only the recorded change counts,
-- and the node that is notified sets the flags.
-- Definer: called from triggers of any writer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.flag_affected_bundles(p_clean uuid[], p_trigger text) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    v_void := rollcall_internal.notify('rollcall_bundles', 'stale');
  elsif p_clean is not null then
    v_void := rollcall_internal.flag_bundles(p_clean, p_trigger);
  end if;
end
$$;
comment on function rollcall_internal.flag_affected_bundles is 'Marks bundles that a change affects as dirty.';

-- The lists have one length; nulls as in context_source_changes.
-- Definer: called from triggers of any writer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.record_source_changes(p_trigger text, p_kinds text[], p_users uuid[],
  p_refs uuid[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_clean pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  with marked as (
    insert into rollcall_internal.context_source_changes (kind, user_id, key, refs)
      select c.kind, c.user_id,
        coalesce(c.user_id, case c.kind when 'message' then c.ref else '00000000-0000-0000-0000-000000000000' end),
        pg_catalog.array_agg(distinct c.ref)
      from unnest(p_kinds, p_users, p_refs) as c (kind, user_id, ref)
      group by 1, 2, 3
    returning kind, user_id, refs
  )
  select pg_catalog.array_agg(distinct b.id) into v_clean
  from marked m cross join lateral rollcall_internal.affected_bundles(m.kind, m.user_id, m.refs) t
  join rollcall.context_bundles b on b.id = t and not b.dirty;
  v_void := rollcall_internal.flag_affected_bundles(v_clean, p_trigger);
end
$$;
comment on function rollcall_internal.record_source_changes is
  'Records changes of sources and marks the affected bundles as dirty.';

-- No bundle is stored while this runs (the lock, which store_bundles shares). So every bundle that exists afterwards
-- was checked here, or is checked against all recorded changes when it is stored.
-- Definer: acts on bundles of all users; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.mark_stale_bundles() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_marks pg_catalog.tid[];
  v_touched pg_catalog.uuid[];
  v_count bigint := 0;
begin
  if not exists (select from rollcall_internal.context_source_changes m where m.seen_at is null) then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0));
  with unseen as materialized (
    select m.ctid, m.kind, m.user_id, m.refs from rollcall_internal.context_source_changes m
      where m.seen_at is null limit 10000
  ),
  clean as materialized (
    select distinct b.id
    from (select distinct u.kind, u.user_id, u.refs from unseen u) d
    cross join lateral rollcall_internal.affected_bundles(d.kind, d.user_id, d.refs) t
    join rollcall.context_bundles b on b.id = t and not b.dirty
  )
  select array(select u.ctid from unseen u), array(
      select b.id from clean c join rollcall.context_bundles b on b.id = c.id
        and rollcall_internal.has_newer_source_change(b, true))
    into v_marks, v_touched;
  if v_touched <> '{}' then
    v_count := rollcall_internal.flag_bundles(v_touched, 'settled');
  end if;
  -- If a bundle was locked, the changes are processed again. Only the holder of the lock updates them.
  if v_count = pg_catalog.cardinality(v_touched) then
    update rollcall_internal.context_source_changes m set seen_at = clock_timestamp() where m.ctid = any (v_marks);
  end if;
  return v_count;
end
$$;
comment on function rollcall_internal.mark_stale_bundles is
  'Sets the dirty flags that recorded changes still require; returns how many.';

-- Words of topics -----------------------------------------------------------------------------------------------------

-- None for a name of stop words only, as in names_tsquery.
-- Invoker: computes from its arguments.
create function rollcall_internal.name_lexemes(p_name text, p_aliases text[]) returns setof text
  language sql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
  select distinct w.word
  from unnest(array[p_name] || coalesce(p_aliases, '{}')) n (name)
  cross join lateral (
    select l.lexeme as word from unnest(to_tsvector('pg_catalog.english', n.name)) l
    order by length(l.lexeme) desc, l.lexeme limit 1
  ) w
$$;
comment on function rollcall_internal.name_lexemes is
  'One lexeme for each of these names that every text with the name contains.';

-- A memory is compared with the topics that share a lexeme with it, not with all topics of the user.
create table rollcall_internal.topic_words (
  user_id uuid not null,
  word text not null,
  topic_id uuid not null references rollcall.topic_profiles (id) on delete cascade,
  constraint topic_words_pkey primary key (user_id, word, topic_id)
);
comment on table rollcall_internal.topic_words is
  'One lexeme of each name of a topic: texts without any of them are not about the topic.';
create index topic_words_topic_id on rollcall_internal.topic_words (topic_id);
-- No policies: only the server uses it.
alter table rollcall_internal.topic_words enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.topic_words', 'user_id', false, null,
    'words of the user''s topics, which are exported; deleted with the topic');

-- Definer: only the server writes the table.
create function rollcall_internal.sync_topic_words() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' then
    delete from rollcall_internal.topic_words w where w.topic_id = new.id;
  end if;
  insert into rollcall_internal.topic_words (user_id, word, topic_id)
    select new.user_id, w.word, new.id from rollcall_internal.name_lexemes(new.label, new.aliases) w (word);
  return null;
end
$$;
comment on function rollcall_internal.sync_topic_words is 'Trigger function: keeps topic_words in step with a topic.';

create trigger sync_topic_words_of_new after insert on rollcall.topic_profiles
  for each row execute function rollcall_internal.sync_topic_words();
create trigger sync_topic_words after update of user_id, label, aliases on rollcall.topic_profiles
  for each row when ((old.user_id, old.label, old.aliases) is distinct from (new.user_id, new.label, new.aliases))
  execute function rollcall_internal.sync_topic_words();

-- Triggers of sources -------------------------------------------------------------------------------------------------

-- The transition tables new_rows and old_rows hold the changed rows. Conditions list every column that is part of a
-- bundle.

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_context_truncated() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := rollcall_internal.record_source_changes('truncated', array['all'], array[null::pg_catalog.uuid],
    array[null::pg_catalog.uuid]);
  return null;
end
$$;
comment on function rollcall_internal.on_context_truncated is 'Trigger function: TRUNCATE affects every bundle.';

-- An empty message that a model is writing is in no bundle.
-- Definer: writers need no right on bundles, recorded changes and queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_messages_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_clean pg_catalog.uuid[];
  v_conversations pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if tg_op = 'INSERT' then
    with marked as (
      insert into rollcall_internal.context_source_changes (kind, key, refs)
        select 'message', c.conversation_id, array[c.conversation_id] from new_rows c where c.state <> 'pending'
        group by c.conversation_id
      returning key
    )
    select pg_catalog.array_agg(b.id) into v_clean
    from marked m join rollcall.context_bundles b on b.conversation_id = m.key where not b.dirty;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      v_void := rollcall_internal.flag_affected_bundles(v_clean, 'message_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select pg_catalog.array_agg(distinct g.conversation_id) into v_conversations from old_rows g
      where g.state <> 'pending';
  else
    select pg_catalog.array_agg(distinct x.conversation_id) into v_conversations
    from old_rows g join new_rows c on c.id = g.id
    cross join lateral (values (g.conversation_id), (c.conversation_id)) x (conversation_id)
    where (g.conversation_id, g.role, g.content, g.state, g.user_id, g.created_at, g.message_index)
      is distinct from (c.conversation_id, c.role, c.content, c.state, c.user_id, c.created_at, c.message_index);
  end if;
  if v_conversations is not null then
    v_void := rollcall_internal.record_source_changes('message_' || case tg_op when 'DELETE' then 'deleted'
      else 'updated' end,
      array_fill('message'::pg_catalog.text, array[pg_catalog.cardinality(v_conversations)]),
      array_fill(null::pg_catalog.uuid, array[pg_catalog.cardinality(v_conversations)]), v_conversations);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_messages_changed is
  'Trigger function: changed messages affect the bundles of their conversation.';

create trigger context_after_insert after insert on rollcall.messages
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_messages_changed();
create trigger context_after_update after update on rollcall.messages
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_messages_changed();
create trigger context_after_delete after delete on rollcall.messages
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_messages_changed();
create trigger context_after_truncate after truncate on rollcall.messages
  for each statement execute function rollcall_internal.on_context_truncated();

-- Invoker: computes from its arguments.
create function rollcall_internal.memory_kinds(p_id uuid, p_category text, p_importance real, p_is_active boolean,
  p_is_pinned boolean)
  returns table (kind text, ref uuid)
  language sql immutable security invoker set search_path = pg_catalog, pg_temp rows 2
as $$
  select 'identity', null::uuid
    where p_is_active and (p_is_pinned or p_category in ('biography', 'identity', 'role')
      and p_importance >= 0.8::real)
  union all
  select 'prefs', null where p_is_active and p_category = 'preference' and p_importance >= 0.6::real
  union all
  select 'memory', p_id where p_is_active
$$;
comment on function rollcall_internal.memory_kinds is 'The kinds of source change that a memory can cause.';

-- Several small statements, because they start faster than one large one: most memories match no topic, few are
-- identity.
-- Definer: see on_messages_changed.
-- Over 60 lines: insert, delete and update differ in how they find bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_memories_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_clean pg_catalog.uuid[];
  v_memories pg_catalog.uuid[];
  v_topics pg_catalog.uuid[];
  v_kinds pg_catalog.text[];
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if tg_op = 'INSERT' then
    insert into rollcall_internal.context_source_changes (kind, user_id, key, refs)
      select 'memory', c.user_id, c.user_id, pg_catalog.array_agg(c.id) from new_rows c
        where c.is_active group by c.user_id;
    if exists (
      select from new_rows c
      where c.is_active and (c.is_pinned or c.category in ('biography', 'identity', 'role')
          and c.importance >= 0.8::real
        or c.category = 'preference' and c.importance >= 0.6::real)
    ) then
      with marked as (
        insert into rollcall_internal.context_source_changes (kind, user_id, key)
          select distinct k.kind, c.user_id, c.user_id
          from new_rows c cross join lateral rollcall_internal.memory_kinds(c.id, c.category, c.importance,
            c.is_active, c.is_pinned) k
          where k.kind <> 'memory'
        returning kind, user_id
      )
      select pg_catalog.array_agg(b.id) into v_clean
      from marked m
      join rollcall.context_bundles b on b.user_id = m.user_id and not b.dirty
        and b.bundle_type = case m.kind when 'identity' then 'identity_core'
          else 'global_prefs' end::rollcall.bundle_type;
    end if;
    -- Rows are looked up by key one by one (hence `offset 0`): plans are generic and do not know how few there are.
    select pg_catalog.array_agg(c.id), pg_catalog.array_agg(w.topic_id) into v_memories, v_topics
    from new_rows c
    cross join lateral pg_catalog.unnest(c.search) l
    cross join lateral (
      select w.topic_id from rollcall_internal.topic_words w where w.user_id = c.user_id
        and w.word = l.lexeme offset 0) w
    where c.is_active;
    if v_topics is not null then
      select v_clean || pg_catalog.array_agg(distinct b.id) into v_clean
      from unnest(v_memories, v_topics) x (memory_id, topic_id)
      cross join lateral (select m.search from rollcall.memories m where m.id = x.memory_id offset 0) m
      cross join lateral (
        select t.user_id from rollcall.topic_profiles t where t.id = x.topic_id and m.search @@ t.query offset 0) t
      cross join lateral (
        select b.id from rollcall.context_bundles b
        where b.topic_id = x.topic_id and b.user_id = t.user_id and not b.dirty offset 0) b;
    end if;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      v_void := rollcall_internal.flag_affected_bundles(v_clean, 'memory_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select pg_catalog.array_agg(k.kind), pg_catalog.array_agg(g.user_id), pg_catalog.array_agg(k.ref) into v_kinds,
      v_users, v_refs
    from old_rows g
    cross join lateral rollcall_internal.memory_kinds(g.id, g.category, g.importance, g.is_active, g.is_pinned) k;
  else
    select pg_catalog.array_agg(x.kind), pg_catalog.array_agg(x.user_id), pg_catalog.array_agg(x.ref) into v_kinds,
      v_users, v_refs
    from old_rows g join new_rows c on c.id = g.id
    cross join lateral (
      select k.kind, g.user_id, k.ref
      from rollcall_internal.memory_kinds(g.id, g.category, g.importance, g.is_active, g.is_pinned) k
      union
      select k.kind, c.user_id, k.ref
      from rollcall_internal.memory_kinds(c.id, c.category, c.importance, c.is_active, c.is_pinned) k
    ) x
    where (g.user_id, g.content, g.category, g.importance, g.is_active, g.is_pinned, g.created_at)
      is distinct from (c.user_id, c.content, c.category, c.importance, c.is_active, c.is_pinned, c.created_at);
  end if;
  if v_kinds is not null then
    v_void := rollcall_internal.record_source_changes('memory_' || case tg_op when 'DELETE' then 'deleted'
      else 'updated' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_memories_changed is
  'Trigger function: changed memories affect identity, preferences and topics that match them.';

create trigger context_after_insert after insert on rollcall.memories
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_memories_changed();
create trigger context_after_update after update on rollcall.memories
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_memories_changed();
create trigger context_after_delete after delete on rollcall.memories
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_memories_changed();
create trigger context_after_truncate after truncate on rollcall.memories
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_instructions_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_kinds pg_catalog.text[];
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if tg_op = 'INSERT' then
    select pg_catalog.array_agg(case c.scope when 'topic' then 'topic' else 'prefs' end),
      pg_catalog.array_agg(c.user_id),
      pg_catalog.array_agg(c.topic_id)
      into v_kinds, v_users, v_refs from new_rows c where c.is_active;
  elsif tg_op = 'DELETE' then
    select pg_catalog.array_agg(case g.scope when 'topic' then 'topic' else 'prefs' end),
      pg_catalog.array_agg(g.user_id),
      pg_catalog.array_agg(g.topic_id)
      into v_kinds, v_users, v_refs from old_rows g where g.is_active;
  else
    select pg_catalog.array_agg(case x.scope when 'topic' then 'topic' else 'prefs' end),
      pg_catalog.array_agg(x.user_id),
      pg_catalog.array_agg(x.topic_id)
      into v_kinds, v_users, v_refs
    from old_rows g join new_rows c on c.id = g.id
    cross join lateral (values (g.scope, g.user_id, g.topic_id, g.is_active),
      (c.scope, c.user_id, c.topic_id, c.is_active))
      x (scope, user_id, topic_id, is_active)
    where x.is_active
      and (g.user_id, g.content, g.scope, g.topic_id, g.priority, g.is_active, g.created_at)
        is distinct from (c.user_id, c.content, c.scope, c.topic_id, c.priority, c.is_active, c.created_at);
  end if;
  if v_kinds is not null then
    v_void := rollcall_internal.record_source_changes(case tg_op when 'DELETE' then 'instruction_deleted'
      else 'instruction_changed' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_instructions_changed is
  'Trigger function: changed instructions affect preferences or their topic.';

create trigger context_after_insert after insert on rollcall.custom_instructions
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_instructions_changed();
create trigger context_after_update after update on rollcall.custom_instructions
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_instructions_changed();
create trigger context_after_delete after delete on rollcall.custom_instructions
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_instructions_changed();
create trigger context_after_truncate after truncate on rollcall.custom_instructions
  for each statement execute function rollcall_internal.on_context_truncated();

-- A new unit is in no topic or entity until it is linked; links have triggers of their own, also when a unit is
-- deleted.
-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_units_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  select pg_catalog.array_agg(x.user_id), pg_catalog.array_agg(c.id) into v_users, v_refs
  from old_rows g join new_rows c on c.id = g.id
  cross join lateral (select g.user_id union select c.user_id) x (user_id)
  where (g.user_id, g.content, g.unit_type, g.quality, g.state, g.created_at)
    is distinct from (c.user_id, c.content, c.unit_type, c.quality, c.state, c.created_at);
  if v_refs is not null then
    v_void := rollcall_internal.record_source_changes('acu_updated', array_fill('unit'::pg_catalog.text,
      array[pg_catalog.cardinality(v_refs)]),
      v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_units_changed is
  'Trigger function: changed units affect their topics and entities.';

create trigger context_after_update after update on rollcall.atomic_chat_units
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_units_changed();
create trigger context_after_truncate after truncate on rollcall.atomic_chat_units
  for each statement execute function rollcall_internal.on_context_truncated();

-- A deletion removes its bundle. A row restored with the same id must not get a bundle that was compiled before the
-- deletion. Topics and entities have an owner; a conversation belongs to all participants.
-- Definer: see record_source_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_bundle_subjects_deleted() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  perform rollcall_internal.record_source_changes(tg_argv[0] || '_deleted', pg_catalog.array_agg(tg_argv[0]),
    pg_catalog.array_agg((pg_catalog.to_jsonb(g) ->> 'user_id')::pg_catalog.uuid), pg_catalog.array_agg(g.id))
  from old_rows g having count(*) > 0;
  return null;
end
$$;
comment on function rollcall_internal.on_bundle_subjects_deleted is
  'Trigger function: records the deletion of a topic, entity or conversation.';

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_topics_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_kinds pg_catalog.text[];
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  select pg_catalog.array_agg(x.kind), pg_catalog.array_agg(x.user_id), pg_catalog.array_agg(c.id) into v_kinds,
    v_users, v_refs
  from old_rows g join new_rows c on c.id = g.id
  cross join lateral (
    select 'topic' as kind, c.user_id
    union all
    select 'label', u.user_id from (select g.user_id union select c.user_id) u (user_id)
      where g.label is distinct from c.label or g.user_id <> c.user_id
  ) x
  where (g.user_id, g.label, g.aliases, g.domain, g.conversation_count, g.unit_count, g.message_count,
    g.last_engaged_at,
      g.streak_days, g.proficiency, g.importance)
    is distinct from (c.user_id, c.label, c.aliases, c.domain, c.conversation_count, c.unit_count, c.message_count,
      c.last_engaged_at, c.streak_days, c.proficiency, c.importance);
  if v_refs is not null then
    v_void := rollcall_internal.record_source_changes('topic_updated', v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_topics_changed is
  'Trigger function: changed topics affect their bundle and, by label, conversations.';

create trigger context_after_update after update on rollcall.topic_profiles
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_topics_changed();
create trigger context_after_truncate after truncate on rollcall.topic_profiles
  for each statement execute function rollcall_internal.on_context_truncated();

create trigger context_after_delete after delete on rollcall.topic_profiles
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_bundle_subjects_deleted('topic');

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_entities_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  select pg_catalog.array_agg(c.user_id), pg_catalog.array_agg(c.id) into v_users, v_refs
  from old_rows g join new_rows c on c.id = g.id
  where (g.user_id, g.name, g.aliases, g.entity_type, g.relationship, g.sentiment, g.facts, g.mention_count,
      g.conversation_count, g.last_mentioned_at, g.importance)
    is distinct from (c.user_id, c.name, c.aliases, c.entity_type, c.relationship, c.sentiment, c.facts,
      c.mention_count,
      c.conversation_count, c.last_mentioned_at, c.importance);
  if v_refs is not null then
    v_void := rollcall_internal.record_source_changes('entity_updated',
      array_fill('entity'::pg_catalog.text, array[pg_catalog.cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_entities_changed is 'Trigger function: changed entities affect their bundle.';

create trigger context_after_update after update on rollcall.entity_profiles
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_entities_changed();
create trigger context_after_truncate after truncate on rollcall.entity_profiles
  for each statement execute function rollcall_internal.on_context_truncated();

create trigger context_after_delete after delete on rollcall.entity_profiles
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_bundle_subjects_deleted('entity');

-- For each row, because its `when` condition costs no function call, and every message updates last_message_at, which
-- is in no bundle.
-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_conversation_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  v_void := rollcall_internal.record_source_changes('conversation_updated', array['conversation'],
    array[null::pg_catalog.uuid], array[new.id]);
  return null;
end
$$;
comment on function rollcall_internal.on_conversation_changed is
  'Trigger function: a changed title affects the bundles of the conversation and its topics.';

create trigger context_after_update after update of title, created_at, created_by on rollcall.conversations
  for each row when ((old.title, old.created_at, old.created_by) is distinct
    from (new.title, new.created_at, new.created_by))
  execute function rollcall_internal.on_conversation_changed();
create trigger context_after_delete after delete on rollcall.conversations
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_bundle_subjects_deleted('conversation');

create trigger context_after_truncate after truncate on rollcall.conversations
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see record_source_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.record_participant_changes(p_conversations uuid[], p_users uuid[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_void pg_catalog.text;
begin
  if p_conversations is not null then
    v_void := rollcall_internal.record_source_changes('conversation_updated',
      array_fill('participant'::pg_catalog.text, array[pg_catalog.cardinality(p_conversations)]),
      p_users, p_conversations);
  end if;
end
$$;
comment on function rollcall_internal.record_participant_changes is
  'Records the source changes of participants that join or leave.';

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_participants_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  if tg_op <> 'INSERT' then
    perform rollcall_internal.record_participant_changes(pg_catalog.array_agg(g.conversation_id),
      pg_catalog.array_agg(g.user_id))
      from old_rows g;
  end if;
  if tg_op <> 'DELETE' then
    perform rollcall_internal.record_participant_changes(pg_catalog.array_agg(c.conversation_id),
      pg_catalog.array_agg(c.user_id))
      from new_rows c;
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_participants_changed is
  'Trigger function: changed participants affect the bundles of their users.';

create trigger context_after_insert after insert on rollcall.conversation_participants
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_participants_changed();
create trigger context_after_update after update on rollcall.conversation_participants
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_participants_changed();
create trigger context_after_delete after delete on rollcall.conversation_participants
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_participants_changed();
create trigger context_after_truncate after truncate on rollcall.conversation_participants
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_topic_conversations_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_kinds pg_catalog.text[];
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if tg_op = 'INSERT' then
    select pg_catalog.array_agg(x.kind), pg_catalog.array_agg(c.user_id), pg_catalog.array_agg(x.ref) into v_kinds,
      v_users, v_refs
    from new_rows c cross join lateral (values ('topic', c.topic_id), ('message', c.conversation_id)) x (kind, ref);
  elsif tg_op = 'DELETE' then
    select pg_catalog.array_agg(x.kind), pg_catalog.array_agg(g.user_id), pg_catalog.array_agg(x.ref) into v_kinds,
      v_users, v_refs
    from old_rows g cross join lateral (values ('topic', g.topic_id), ('message', g.conversation_id)) x (kind, ref);
  else
    -- The key may change as well, so old and new rows are not matched: rows in both are no change.
    select pg_catalog.array_agg(x.kind), pg_catalog.array_agg(d.user_id), pg_catalog.array_agg(x.ref) into v_kinds,
      v_users, v_refs
    from (
      (select topic_id, conversation_id, user_id, relevance from old_rows
        except select topic_id, conversation_id, user_id, relevance from new_rows)
      union all
      (select topic_id, conversation_id, user_id, relevance from new_rows
        except select topic_id, conversation_id, user_id, relevance from old_rows)
    ) d cross join lateral (values ('topic', d.topic_id), ('message', d.conversation_id)) x (kind, ref);
  end if;
  if v_kinds is not null then
    v_void := rollcall_internal.record_source_changes('topic_updated', v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_topic_conversations_changed is
  'Trigger function: changed links affect the bundles of topic and conversation.';

create trigger context_after_insert after insert on rollcall.topic_conversations
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_topic_conversations_changed();
create trigger context_after_update after update on rollcall.topic_conversations
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_topic_conversations_changed();
create trigger context_after_delete after delete on rollcall.topic_conversations
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_topic_conversations_changed();
create trigger context_after_truncate after truncate on rollcall.topic_conversations
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_topic_units_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if tg_op = 'INSERT' then
    select pg_catalog.array_agg(c.user_id), pg_catalog.array_agg(c.topic_id) into v_users, v_refs
    from (select distinct user_id, topic_id from new_rows) c;
  elsif tg_op = 'DELETE' then
    select pg_catalog.array_agg(g.user_id), pg_catalog.array_agg(g.topic_id) into v_users, v_refs
    from (select distinct user_id, topic_id from old_rows) g;
  else
    select pg_catalog.array_agg(d.user_id), pg_catalog.array_agg(d.topic_id) into v_users, v_refs
    from (
      (select topic_id, unit_id, user_id, relevance from old_rows except select topic_id, unit_id, user_id, relevance
        from new_rows)
      union all
      (select topic_id, unit_id, user_id, relevance from new_rows except select topic_id, unit_id, user_id, relevance
        from old_rows)
    ) d;
  end if;
  if v_refs is not null then
    v_void := rollcall_internal.record_source_changes('acu_linked', array_fill('topic'::pg_catalog.text,
      array[pg_catalog.cardinality(v_refs)]),
      v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_topic_units_changed is
  'Trigger function: changed links of units affect the bundles of their topics.';

create trigger context_after_insert after insert on rollcall.topic_units
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_topic_units_changed();
create trigger context_after_update after update on rollcall.topic_units
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_topic_units_changed();
create trigger context_after_delete after delete on rollcall.topic_units
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_topic_units_changed();
create trigger context_after_truncate after truncate on rollcall.topic_units
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_entity_units_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_users pg_catalog.uuid[];
  v_refs pg_catalog.uuid[];
  v_void pg_catalog.text;
begin
  if tg_op = 'INSERT' then
    select pg_catalog.array_agg(c.user_id), pg_catalog.array_agg(c.entity_id) into v_users, v_refs
    from (select distinct user_id, entity_id from new_rows) c;
  elsif tg_op = 'DELETE' then
    select pg_catalog.array_agg(g.user_id), pg_catalog.array_agg(g.entity_id) into v_users, v_refs
    from (select distinct user_id, entity_id from old_rows) g;
  else
    select pg_catalog.array_agg(d.user_id), pg_catalog.array_agg(d.entity_id) into v_users, v_refs
    from (
      (select entity_id, unit_id, user_id from old_rows except select entity_id, unit_id, user_id from new_rows)
      union all
      (select entity_id, unit_id, user_id from new_rows except select entity_id, unit_id, user_id from old_rows)
    ) d;
  end if;
  if v_refs is not null then
    v_void := rollcall_internal.record_source_changes('acu_linked',
      array_fill('entity'::pg_catalog.text, array[pg_catalog.cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_entity_units_changed is
  'Trigger function: changed links of units affect the bundles of their entities.';

create trigger context_after_insert after insert on rollcall.entity_units
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_entity_units_changed();
create trigger context_after_update after update on rollcall.entity_units
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_entity_units_changed();
create trigger context_after_delete after delete on rollcall.entity_units
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_entity_units_changed();
create trigger context_after_truncate after truncate on rollcall.entity_units
  for each statement execute function rollcall_internal.on_context_truncated();

-- Restores and replication set session_replication_role, under which only such triggers fire.
do $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgname, t.tgrelid::regclass as relation from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid = t.tgrelid and c.relnamespace = 'rollcall'::regnamespace
    where t.tgname like 'context\_after\_%' or t.tgname like 'sync\_topic\_words%'
  loop
    execute format('alter table %s enable always trigger %I', v_trigger.relation, v_trigger.tgname);
  end loop;
end
$$;

-- Policies and grants -------------------------------------------------------------------------------------------------

-- A bundle is compiled from what its user was allowed to see. So it stores the version of policies and grants under
-- which it was compiled, and is served only under that version, and a bundle of a conversation only to users that see
-- the conversation now. Versions consist of transaction IDs: a change and its reversal give a new version, except that
-- dropping a new policy gives the version before it. Disabling and enabling a trigger of a source gives a new version
-- too: what changed in between was not recorded. While one of these triggers is missing or disabled, no bundle is
-- served; each is compiled when it is needed.

create table rollcall_internal.context_access_version (
  only_row boolean primary key default true constraint context_access_is_one_row check (only_row),
  version bigint not null
);
comment on table rollcall_internal.context_access_version is
  'The version of policies and grants that bundles were last stored or checked under. One row.';
-- No policies: only the server uses it.
alter table rollcall_internal.context_access_version enable row level security;

-- The tables, their columns with grants, their policies, the functions that these call, and the triggers that record
-- changes. fires: of a trigger, whether it fires in every session.
-- Definer: reads catalogs only.
create function rollcall_internal.context_catalog()
  returns table (catalog regclass, id bigint, version xid, fires boolean)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 100
as $$
begin
  return query
    with source as materialized (
      select c.oid, c.xmin from pg_catalog.pg_class c
      where c.relnamespace = 'rollcall'::regnamespace
        and c.relname in ('conversations', 'conversation_participants', 'messages',
        'atomic_chat_units', 'memories', 'custom_instructions', 'topic_profiles', 'entity_profiles',
          'topic_conversations',
        'entity_conversations', 'topic_units', 'entity_units')
    ),
    policy as materialized (
      select p.oid, p.xmin from source s
      cross join lateral (select p.oid, p.xmin from pg_catalog.pg_policy p where p.polrelid = s.oid offset 0) p
    ),
    called as (
      select distinct d.refobjid as oid from policy p
      cross join lateral (
        select d.refobjid from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
          and d.refclassid = 'pg_catalog.pg_proc'::regclass
        offset 0) d
    )
    select 'pg_catalog.pg_class'::regclass, s.oid::bigint, s.xmin, null::boolean from source s
    union all
    select 'pg_catalog.pg_attribute'::regclass, s.oid::bigint << 16 | a.attnum, a.xmin, null
    from source s cross join lateral (
      select a.attnum, a.xmin from pg_catalog.pg_attribute a
      where a.attrelid = s.oid and a.attnum > 0 and a.attacl is not null offset 0) a
    union all
    select 'pg_catalog.pg_policy'::regclass, p.oid::bigint, p.xmin, null from policy p
    union all
    select 'pg_catalog.pg_proc'::regclass, f.oid::bigint, f.xmin, null
    from called c cross join lateral (select f.oid, f.xmin from pg_catalog.pg_proc f where f.oid = c.oid offset 0) f
    union all
    select 'pg_catalog.pg_trigger'::regclass, t.oid::bigint, t.xmin, t.tgenabled = 'A'
    from source s cross join lateral (
      select t.oid, t.xmin, t.tgenabled from pg_catalog.pg_trigger t
      where t.tgrelid = s.oid and t.tgname >= 'context_after_' and t.tgname < 'context_after`' offset 0) t;
end
$$;
comment on function rollcall_internal.context_catalog is
  'Catalog rows that decide who may see the sources of bundles and whether their changes are recorded, each with the '
  'transaction that wrote it.';

-- Invoker: the number of triggers named context_after_%.
create function rollcall_internal.context_trigger_count() returns int
  language sql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
  select 39
$$;
comment on function rollcall_internal.context_trigger_count is 'Number of triggers that record changes of sources.';

-- is_recorded: whether every change of a source is recorded.
-- Definer: reads catalogs only; returns a hash of their versions.
create function rollcall_internal.context_access(out version bigint, out is_recorded boolean)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  select
    coalesce(bit_xor(hashint8extended(c.version::text::bigint, hashint8extended(c.id, c.catalog::oid::bigint))), 0),
    count(*) filter (where c.fires) = rollcall_internal.context_trigger_count()
    into version, is_recorded
  from rollcall_internal.context_catalog() c;
end
$$;
comment on function rollcall_internal.context_access is
  'The access version, and whether the triggers that record changes of sources all fire.';

-- Definer: see context_access.
create function rollcall.context_access_version() returns bigint
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (select a.version from rollcall_internal.context_access() a);
end
$$;
comment on function rollcall.context_access_version is
  'One number for the version of policies, grants and triggers on the sources of bundles. Every change gives another.';
grant execute on function rollcall.context_access_version to authenticated, service_role;

-- For readers of sources: p_before is the version in the snapshot of the reading statement. This function is volatile,
-- so that it looks in a newer snapshot. Policies cannot change while the sources are locked, but row-level security
-- applies them as they were when the lock was taken; grants and functions may change during the statement.
-- Definer: see context_access_version.
create function rollcall.confirmed_access_version(p_before bigint) returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return case when rollcall.context_access_version() = p_before then p_before end;
end
$$;
comment on function rollcall.confirmed_access_version is
  'The access version of sources that were just read; null where it changed meanwhile: nothing is served of them.';
grant execute on function rollcall.confirmed_access_version to authenticated, service_role;

-- Definer: reads catalogs only.
create function rollcall_internal.silent_context_triggers() returns setof text
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select format('%s on %s', w.name, w.relation) from rollcall_internal.triggers w
  where w.name like 'context\_after\_%' and not exists (
    select from pg_catalog.pg_trigger t where t.tgrelid = w.relation and t.tgname = w.name and t.tgenabled = 'A')
  order by 1
$$;
comment on function rollcall_internal.silent_context_triggers is
  'Triggers that should record changes of sources and are missing or do not fire in every session.';

-- The flags make other versions visible in views and counts. They are not queued: each bundle is compiled when it is
-- next needed.
-- Definer: only the server writes bundles; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.mark_stale_by_access() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_version constant bigint := rollcall.context_access_version();
  v_count bigint;
begin
  if exists (select from rollcall_internal.context_access_version a where a.version = v_version) then
    return 0;
  end if;
  update rollcall.context_bundles b set dirty = true, miss_count = b.miss_count + 1
  from (
    select f.id from rollcall.context_bundles f
    where not f.dirty and f.access_version is distinct from v_version
    order by f.id for no key update skip locked
  ) free
  where b.id = free.id;
  get diagnostics v_count = row_count;
  insert into rollcall_internal.context_access_version as a (version) values (v_version)
    on conflict (only_row) do update set version = excluded.version;
  return v_count;
end
$$;
comment on function rollcall_internal.mark_stale_by_access is
  'Marks bundles of other policies and grants as dirty; returns how many.';

-- In the statement and snapshot of the caller. Without unprocessed changes none can be stale; otherwise each is
-- checked.
-- Definer: reads source changes, which API roles may not; answers for auth.uid() only.
create function rollcall.my_fresh_bundles(p_bundles uuid[]) returns setof uuid
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 10
as $$
declare
  v_me constant uuid := auth.uid();
  v_access bigint;
begin
  select a.version into v_access from rollcall_internal.context_access() a where a.is_recorded;
  if not found then
    return;
  end if;
  return query
    with mine as materialized (
      select b.bundle, b.id, b.conversation_id
      from unnest(p_bundles) i (id)
      cross join lateral (
        select b as bundle, b.id, b.conversation_id from rollcall.context_bundles b
        where b.id = i.id and b.user_id = v_me and not b.dirty and b.expires_at > clock_timestamp()
          and b.access_version = v_access
          -- Restored into another cluster, a snapshot has no meaning.
          and pg_snapshot_xmax(b.compiled_seeing) <= pg_snapshot_xmax(pg_current_snapshot())
        offset 0) b
    ),
    marks as materialized (
      select exists (
        select from rollcall_internal.context_source_changes k
        where k.seen_at is null and k.key = any (
          array[v_me, '00000000-0000-0000-0000-000000000000'] || array(select m.conversation_id from mine m)))
            as are_there
    )
    select m.id from mine m cross join marks k where not k.are_there or rollcall_internal.is_fresh(m.bundle);
end
$$;
comment on function rollcall.my_fresh_bundles is 'Which of the callers bundles may be served now.';
grant execute on function rollcall.my_fresh_bundles to authenticated, service_role;
