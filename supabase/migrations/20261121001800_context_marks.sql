-- The same promise as in context_freshness, for a fraction of its cost to whoever changes a source: a change leaves one
-- mark a kind and a key instead of one a row, looks first, cheaply, whether there is any bundle that is not dirty yet,
-- and flags, queues and notifies only then.
-- Invariant, as before: what a snapshot does not see of the marks, a bundle that was compiled in it does not contain.

-- Marks live for minutes, and bundles are a cache: both begin anew.
delete from rollcall.personal_data d where d.relation = 'rollcall.context_marks'::regclass;
drop table rollcall.context_marks;
delete from public.context_bundles;

create table rollcall.context_marks (
  kind text not null constraint context_marks_kind_is_known check (kind in
    ('identity', 'prefs', 'memory', 'topic', 'label', 'entity', 'unit', 'message', 'conversation', 'all')),
  user_id uuid,
  key uuid not null,
  refs uuid[],
  xid xid8 not null default pg_current_xact_id(),
  seen_at timestamptz
);
comment on table rollcall.context_marks is
  'What changed of the context engine''s sources, of late. Gone some minutes after every bundle has been told.';
comment on column rollcall.context_marks.user_id is 'Whose bundles are meant; null: everybody''s about refs.';
comment on column rollcall.context_marks.key is
  'Under which bundles look for it: the user; for everybody''s of a conversation, that; else the nil UUID.';
-- The first for serving a bundle, the second for storing one: what its snapshot does not see lies at the end of a key.
create index context_marks_unseen on rollcall.context_marks (key) where seen_at is null;
create index context_marks_key on rollcall.context_marks (key, xid);
create index context_marks_seen_at on rollcall.context_marks (seen_at) where seen_at is not null;
-- No policies: the server's bookkeeping.
alter table rollcall.context_marks enable row level security;

-- The word of each name of a topic by which a text that holds the name is found: every text with the name has it.
-- A memory is judged against the topics that share a word with it, not against all of the user's.
create table rollcall.topic_words (
  user_id uuid not null,
  word text not null,
  topic_id uuid not null references public.topic_profiles (id) on delete cascade,
  constraint topic_words_pkey primary key (user_id, word, topic_id)
);
comment on table rollcall.topic_words is 'A word of each name of a topic: texts without any of them are not about it.';
create index topic_words_topic_id on rollcall.topic_words (topic_id);
-- No policies: the server's bookkeeping.
alter table rollcall.topic_words enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.context_marks', 'user_id', false, null, 'bare ids, gone after some minutes'),
  ('rollcall.topic_words', 'user_id', false, null, 'words of the user''s topics, which are exported; goes with the topic');

-- The words by which texts with one of these names are found; a name of nothing but stop words has none, as in names_query.
-- Invoker: looks at nothing but its arguments.
create function rollcall.words_of_names(p_name text, p_aliases text[]) returns setof text
  language sql immutable parallel safe security invoker set search_path = ''
as $$
  select distinct w.word
  from unnest(array[p_name] || coalesce(p_aliases, '{}')) n (name)
  cross join lateral (
    select l.lexeme as word from unnest(to_tsvector('pg_catalog.english', n.name)) l
    order by length(l.lexeme) desc, l.lexeme limit 1
  ) w
$$;

-- Definer: called from a trigger of whoever writes; the table is the server's.
create function rollcall.keep_topic_words() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    delete from rollcall.topic_words w where w.topic_id = new.id;
  end if;
  insert into rollcall.topic_words (user_id, word, topic_id)
    select new.user_id, w.word, new.id from rollcall.words_of_names(new.label, new.aliases) w (word);
  return null;
end
$$;
create trigger keep_topic_words_of_new after insert on public.topic_profiles
  for each row execute function rollcall.keep_topic_words();
create trigger keep_topic_words after update of user_id, label, aliases on public.topic_profiles
  for each row when ((old.user_id, old.label, old.aliases) is distinct from (new.user_id, new.label, new.aliases))
  execute function rollcall.keep_topic_words();
insert into rollcall.topic_words (user_id, word, topic_id)
  select t.user_id, w.word, t.id from public.topic_profiles t cross join lateral rollcall.words_of_names(t.label, t.aliases) w (word);

-- Judging ----------------------------------------------------------------------------------------------------------

-- The bundles that one mark concerns, as far as this snapshot shows. Everything that decides what goes into which
-- bundle is repeated here, and nothing beyond it: narrower would be stale, wider would be waste.
-- Definer: a change concerns bundles of other users too, as with a message in a shared conversation.
drop function rollcall.bundles_touched(text, uuid, uuid);
create function rollcall.bundles_touched(p_kind text, p_user uuid, p_refs uuid[]) returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 5
as $$
begin
  case p_kind
    when 'identity' then
      return query select b.id from public.context_bundles b where b.user_id = p_user and b.bundle_type = 'identity_core';
    when 'prefs' then
      return query select b.id from public.context_bundles b where b.user_id = p_user and b.bundle_type = 'global_prefs';
    when 'memory' then
      -- In it, or found by the topic's names.
      return query
        select b.id from public.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'topic'
          and (b.memory_ids && p_refs or exists (
            select from public.memories m, public.topic_profiles t
            where m.id = any (p_refs) and t.id = b.topic_id and m.search @@ t.query));
    when 'topic' then
      return query select b.id from public.context_bundles b where b.topic_id = any (p_refs);
    when 'label' then
      -- Conversations are described by the labels of their topics.
      return query
        select b.id from public.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'conversation'
          and (b.topic_ids && p_refs or b.conversation_id in (
            select l.conversation_id from public.topic_conversations l where l.topic_id = any (p_refs)));
    when 'entity' then
      return query select b.id from public.context_bundles b where b.entity_id = any (p_refs);
    when 'unit' then
      return query
        select b.id from public.context_bundles b
        where b.user_id = p_user and b.bundle_type in ('topic', 'entity')
          and (b.unit_ids && p_refs
            or b.topic_id in (select l.topic_id from public.topic_units l where l.unit_id = any (p_refs))
            or b.entity_id in (select l.entity_id from public.entity_units l where l.unit_id = any (p_refs)));
    when 'message' then
      return query
        select b.id from public.context_bundles b
        where b.conversation_id = any (p_refs) and (p_user is null or b.user_id = p_user);
    when 'conversation' then
      return query
        select b.id from public.context_bundles b where b.conversation_id = any (p_refs)
        union
        -- Topics list their conversations by title.
        select b.id from public.context_bundles b
        join public.topic_conversations l on l.topic_id = b.topic_id
        where l.conversation_id = any (p_refs);
    else
      return query select b.id from public.context_bundles b;
  end case;
end
$$;
comment on function rollcall.bundles_touched is 'The bundles that a change of sources concerns.';

-- Whether a change was committed that the bundle's compilation did not see, among all marks or among those that have
-- not been turned into flags yet. Which kinds concern which type only saves work: bundles_touched decides.
-- Definer: reads marks, which nobody else may; it says of a row that the caller already has whether it is stale.
create or replace function rollcall.is_contradicted(p_bundle public.context_bundles, p_only_unseen boolean) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_kinds constant text[] := case p_bundle.bundle_type
    when 'identity_core' then '{all,identity}'
    when 'global_prefs' then '{all,prefs}'
    when 'topic' then '{all,memory,topic,unit,conversation}'
    when 'entity' then '{all,entity,unit}'
    when 'conversation' then '{all,label,message,conversation}'
    else '{all,identity,prefs,memory,topic,label,entity,unit,message,conversation}' end;
  v_keys constant uuid[] :=
    array[p_bundle.user_id, p_bundle.conversation_id, '00000000-0000-0000-0000-000000000000'::uuid];
begin
  -- Restored into another cluster, a snapshot means nothing.
  if pg_snapshot_xmax(p_bundle.compiled_seeing) > pg_snapshot_xmax(pg_current_snapshot()) then
    return true;
  end if;
  if p_only_unseen then
    return exists (
      select from rollcall.context_marks m
      where m.seen_at is null and m.key = any (v_keys) and m.kind = any (v_kinds)
        and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
        and p_bundle.id in (select rollcall.bundles_touched(m.kind, m.user_id, m.refs)));
  end if;
  return exists (
    select from rollcall.context_marks m
    where m.key = any (v_keys) and m.xid >= pg_snapshot_xmin(p_bundle.compiled_seeing) and m.kind = any (v_kinds)
      and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
      and p_bundle.id in (select rollcall.bundles_touched(m.kind, m.user_id, m.refs)));
end
$$;

-- Marking ----------------------------------------------------------------------------------------------------------

-- Leaves marks and flags what they concern. The lists are of one length; nulls as in context_marks.
-- Definer: called from triggers of whoever changes a source.
create or replace function rollcall.note_changes(p_trigger text, p_kinds text[], p_users uuid[], p_refs uuid[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_clean uuid[];
begin
  with marked as (
    insert into rollcall.context_marks (kind, user_id, key, refs)
      select c.kind, c.user_id,
        coalesce(c.user_id, case c.kind when 'message' then c.ref else '00000000-0000-0000-0000-000000000000' end),
        array_agg(distinct c.ref)
      from unnest(p_kinds, p_users, p_refs) as c (kind, user_id, ref)
      group by 1, 2, 3
    returning kind, user_id, refs
  )
  select array_agg(distinct b.id) into v_clean
  from marked m cross join lateral rollcall.bundles_touched(m.kind, m.user_id, m.refs) t
  join public.context_bundles b on b.id = t and not b.dirty;
  perform rollcall.flag_touched(v_clean, p_trigger);
end
$$;

-- Flags what a change concerns. In a snapshot that began before, flags would be set on what may have been replaced
-- since: there the marks stand alone, and whoever hears of them sets the flags.
-- Definer: called from triggers of whoever changes a source.
create function rollcall.flag_touched(p_clean uuid[], p_trigger text) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    perform pg_notify('rollcall_bundles', 'dirty');
  elsif p_clean is not null then
    perform rollcall.flag_bundles(p_clean, p_trigger);
  end if;
end
$$;

-- Sets the flags that marks ask for and that could not be set in the change's own transaction, and notes that these
-- marks have been seen. Returns how many flags.
-- Invariant: no bundle is stored while this runs (the lock, which store_bundles shares), so each bundle that is there
-- afterwards either was judged here or is judged by all marks when it is stored.
-- Definer: acts on everybody's bundles; for the server.
create or replace function rollcall.settle_bundles() returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_marks tid[];
  v_touched uuid[];
  v_count bigint := 0;
begin
  if not exists (select from rollcall.context_marks m where m.seen_at is null) then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0));
  with unseen as materialized (
    select m.ctid, m.kind, m.user_id, m.refs from rollcall.context_marks m where m.seen_at is null limit 10000
  ),
  clean as materialized (
    select distinct b.id
    from (select distinct u.kind, u.user_id, u.refs from unseen u) d
    cross join lateral rollcall.bundles_touched(d.kind, d.user_id, d.refs) t
    join public.context_bundles b on b.id = t and not b.dirty
  )
  select array(select u.ctid from unseen u), array(
      select b.id from clean c join public.context_bundles b on b.id = c.id and rollcall.is_contradicted(b, true))
    into v_marks, v_touched;
  if v_touched <> '{}' then
    v_count := rollcall.flag_bundles(v_touched, 'settled');
  end if;
  -- Where a bundle was held at this moment, the marks are looked at again. Only who holds the lock moves marks.
  if v_count = cardinality(v_touched) then
    update rollcall.context_marks m set seen_at = clock_timestamp() where m.ctid = any (v_marks);
  end if;
  return v_count;
end
$$;

-- The triggers that applications fire most ----------------------------------------------------------------------------

-- Messages: the bundle of their conversation, for everyone who takes part. A model's empty message, while it is being
-- written, is in no bundle.
create or replace function rollcall.on_messages_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_clean uuid[];
  v_conversations uuid[];
begin
  if tg_op = 'INSERT' then
    with marked as (
      insert into rollcall.context_marks (kind, key, refs)
        select 'message', c.conversation_id, array[c.conversation_id] from come c where c.state <> 'pending'
        group by c.conversation_id
      returning key
    )
    select array_agg(b.id) into v_clean
    from marked m join public.context_bundles b on b.conversation_id = m.key where not b.dirty;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      perform rollcall.flag_touched(v_clean, 'message_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select array_agg(distinct g.conversation_id) into v_conversations from gone g where g.state <> 'pending';
  else
    select array_agg(distinct x.conversation_id) into v_conversations
    from gone g join come c on c.id = g.id
    cross join lateral (values (g.conversation_id), (c.conversation_id)) x (conversation_id)
    where (g.conversation_id, g.role, g.content, g.state, g.user_id, g.created_at, g.message_index)
      is distinct from (c.conversation_id, c.role, c.content, c.state, c.user_id, c.created_at, c.message_index);
  end if;
  if v_conversations is not null then
    perform rollcall.note_changes('message_' || case tg_op when 'DELETE' then 'deleted' else 'updated' end,
      array_fill('message'::text, array[cardinality(v_conversations)]),
      array_fill(null::uuid, array[cardinality(v_conversations)]), v_conversations);
  end if;
  return null;
end
$$;

-- When a conversation's last message came. Locks in one order, so that two who speak in several conversations at once
-- do not wait for each other for ever.
-- Definer: whoever may say something need not be able to write the conversation.
create function rollcall.keep_last_message() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.conversations c set last_message_at = greatest(c.last_message_at, l.at)
  from (
    select k.id, m.at
    from (select x.conversation_id, max(x.created_at) as at from come x where x.state <> 'pending' group by 1) m
    join public.conversations k on k.id = m.conversation_id and (k.last_message_at is null or k.last_message_at < m.at)
    order by k.id for no key update of k
  ) l
  where c.id = l.id;
  return null;
end
$$;
create trigger keep_last_message after insert on public.messages
  referencing new table as come for each statement execute function rollcall.keep_last_message();

-- Memories: identity and preferences only where the memory was or is of those that they choose from; topics by name.
create or replace function rollcall.on_memories_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_clean uuid[];
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    -- Rows are looked up by key, one by one (hence each `offset 0`): plans are made without knowing how few there are.
    with marked as (
      insert into rollcall.context_marks (kind, user_id, key, refs)
        select k.kind, c.user_id, c.user_id, case k.kind when 'memory' then c.ids end
        from (
          select x.user_id, array_agg(x.id) as ids,
            bool_or(x.category in ('biography', 'identity', 'role') and x.importance >= 0.8::real) as identity,
            bool_or(x.category = 'preference' and x.importance >= 0.6::real) as prefs
          from come x where x.is_active group by x.user_id
        ) c
        cross join lateral (values ('memory', true), ('identity', c.identity), ('prefs', c.prefs)) k (kind, is_meant)
        where k.is_meant
      returning kind, user_id
    ),
    touched as (
      select b.id
      from marked m
      cross join lateral (
        select b.id from public.context_bundles b
        where b.user_id = m.user_id and not b.dirty
          and b.bundle_type = case m.kind when 'identity' then 'identity_core' else 'global_prefs' end::public.bundle_type
        offset 0) b
      where m.kind <> 'memory'
      union all
      select b.id
      from come c
      cross join lateral unnest(c.search) l
      cross join lateral (
        select w.topic_id from rollcall.topic_words w where w.user_id = c.user_id and w.word = l.lexeme offset 0) w
      cross join lateral (
        select t.id from public.topic_profiles t where t.id = w.topic_id and c.search @@ t.query offset 0) t
      cross join lateral (
        select b.id from public.context_bundles b
        where b.topic_id = t.id and b.user_id = c.user_id and not b.dirty offset 0) b
      where c.is_active
    )
    select array_agg(distinct t.id) into v_clean from touched t;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      perform rollcall.flag_touched(v_clean, 'memory_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select array_agg(k.kind), array_agg(g.user_id), array_agg(k.ref) into v_kinds, v_users, v_refs
    from gone g cross join lateral rollcall.memory_kinds(g.id, g.category, g.importance, g.is_active) k;
  else
    select array_agg(x.kind), array_agg(x.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from gone g join come c on c.id = g.id
    cross join lateral (
      select k.kind, g.user_id, k.ref from rollcall.memory_kinds(g.id, g.category, g.importance, g.is_active) k
      union
      select k.kind, c.user_id, k.ref from rollcall.memory_kinds(c.id, c.category, c.importance, c.is_active) k
    ) x
    where (g.user_id, g.content, g.category, g.importance, g.is_active, g.created_at)
      is distinct from (c.user_id, c.content, c.category, c.importance, c.is_active, c.created_at);
  end if;
  if v_kinds is not null then
    perform rollcall.note_changes('memory_' || case tg_op when 'DELETE' then 'deleted' else 'updated' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;

-- Conversations: a title stands in the conversation's bundle and in those of its topics. A row at a time, because a
-- condition is only judged so without calling anything, and every message moves last_message_at, which is in no bundle.
drop trigger context_after_update on public.conversations;
drop function rollcall.on_conversations_changed();
-- Definer: see note_changes.
create function rollcall.on_conversation_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall.note_changes('conversation_updated', array['conversation'], array[null::uuid], array[new.id]);
  return null;
end
$$;
create trigger context_after_update after update of title, created_at, created_by on public.conversations
  for each row when ((old.title, old.created_at, old.created_by) is distinct from (new.title, new.created_at, new.created_by))
  execute function rollcall.on_conversation_changed();

do $$ begin perform rollcall.record_triggers(); end $$;

revoke execute on all functions in schema rollcall from public;
