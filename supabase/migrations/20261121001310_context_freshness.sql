-- No committed change of a source leaves a bundle looking fresh.
-- A change does two things in its own transaction. It leaves a *mark*, a row that says what changed; and it sets the
-- dirty flag of the bundles that this concerns, queues their recompilation and notifies. The mark is what makes it
-- certain: a bundle remembers the snapshot in which its sources were read, so it is contradicted by every mark that this
-- snapshot does not see, however the transactions interleaved, and also where no bundle was there yet to be flagged.
-- The flag is what makes it quick, and visible.
-- Invariant: marking only inserts. A change waits for no other change and for no compilation, and cannot deadlock with
-- either: flags of bundles that somebody else holds are left to the mark, and set soon after (settle_bundles).

create table rollcall.context_marks (
  id bigint generated always as identity primary key,
  kind text not null constraint context_marks_kind_is_known check (kind in
    ('identity', 'prefs', 'memory', 'topic', 'label', 'entity', 'unit', 'message', 'conversation', 'all')),
  user_id uuid,
  ref uuid,
  xid xid8 not null default pg_current_xact_id(),
  seen_at timestamptz
);
comment on table rollcall.context_marks is
  'What changed of the context engine''s sources, of late. Gone some minutes after every bundle has been told.';
comment on column rollcall.context_marks.user_id is 'Whose bundles are meant; null: everybody''s about ref.';
create index context_marks_user_id on rollcall.context_marks (user_id);
create index context_marks_unseen on rollcall.context_marks (user_id) where seen_at is null;
create index context_marks_seen_at on rollcall.context_marks (seen_at) where seen_at is not null;
-- No policies: the server's bookkeeping.
alter table rollcall.context_marks enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.context_marks', 'user_id', false, null, 'bare ids, gone after some minutes');

-- How long a bundle of a type may be served at most.
create function rollcall.bundle_ttl(p_type public.bundle_type) returns interval
  language sql immutable parallel safe security invoker set search_path = ''
as $$
  select case p_type
    when 'identity_core' then interval '24 hours'
    when 'global_prefs' then interval '12 hours'
    when 'topic' then interval '4 hours'
    when 'entity' then interval '6 hours'
    else interval '30 minutes' end
$$;
comment on function rollcall.bundle_ttl is 'How long a bundle of a type may be served at most.';

-- The bundles that one change concerns, as far as this snapshot shows. Everything that decides what goes into which
-- bundle is repeated here, and nothing beyond it: narrower would be stale, wider would be waste.
-- Definer: a change concerns bundles of other users too, as with a message in a shared conversation.
create function rollcall.bundles_touched(p_kind text, p_user uuid, p_ref uuid) returns setof uuid
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
          and (p_ref = any (b.memory_ids) or exists (
            select from public.memories m, public.topic_profiles t
            where m.id = p_ref and t.id = b.topic_id and m.search @@ t.query));
    when 'topic' then
      return query select b.id from public.context_bundles b where b.topic_id = p_ref;
    when 'label' then
      -- Conversations are described by the labels of their topics.
      return query
        select b.id from public.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'conversation'
          and (p_ref = any (b.topic_ids) or b.conversation_id in (
            select l.conversation_id from public.topic_conversations l where l.topic_id = p_ref));
    when 'entity' then
      return query select b.id from public.context_bundles b where b.entity_id = p_ref;
    when 'unit' then
      return query
        select b.id from public.context_bundles b
        where b.user_id = p_user and b.bundle_type in ('topic', 'entity')
          and (p_ref = any (b.unit_ids)
            or b.topic_id in (select l.topic_id from public.topic_units l where l.unit_id = p_ref)
            or b.entity_id in (select l.entity_id from public.entity_units l where l.unit_id = p_ref));
    when 'message' then
      return query
        select b.id from public.context_bundles b
        where b.conversation_id = p_ref and (p_user is null or b.user_id = p_user);
    when 'conversation' then
      return query
        select b.id from public.context_bundles b where b.conversation_id = p_ref
        union
        -- Topics list their conversations by title.
        select b.id from public.context_bundles b
        join public.topic_conversations l on l.topic_id = b.topic_id
        where l.conversation_id = p_ref;
    else
      return query select b.id from public.context_bundles b;
  end case;
end
$$;
comment on function rollcall.bundles_touched is 'The bundles that a change of a source concerns.';

-- Whether a change was committed that the bundle's compilation did not see, among all marks or among those that have
-- not been turned into flags yet. Which kinds concern which type only saves work: bundles_touched decides.
-- Definer: reads marks, which nobody else may; it says of a row that the caller already has whether it is stale.
create function rollcall.is_contradicted(p_bundle public.context_bundles, p_only_unseen boolean) returns boolean
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
begin
  -- Restored into another cluster, a snapshot means nothing.
  if pg_snapshot_xmax(p_bundle.compiled_seeing) > pg_snapshot_xmax(pg_current_snapshot()) then
    return true;
  end if;
  if p_only_unseen then
    return exists (
      select from rollcall.context_marks m
      where m.seen_at is null and (m.user_id is null or m.user_id = p_bundle.user_id) and m.kind = any (v_kinds)
        and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
        and p_bundle.id in (select rollcall.bundles_touched(m.kind, m.user_id, m.ref)));
  end if;
  return exists (
    select from rollcall.context_marks m
    where (m.user_id is null or m.user_id = p_bundle.user_id) and m.kind = any (v_kinds)
      and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
      and p_bundle.id in (select rollcall.bundles_touched(m.kind, m.user_id, m.ref)));
end
$$;
comment on function rollcall.is_contradicted is
  'Whether a change of a source was committed that the compilation of this bundle did not see.';

-- Fresh: not dirty, not expired, not contradicted. Marks that were seen are flags by now (settle_bundles), and no bundle
-- was stored past them (store_bundles), so the unseen ones are left to look at: a handful, most of the time none.
-- Definer: see is_contradicted.
create function rollcall.is_fresh(p_bundle public.context_bundles) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
begin
  return not p_bundle.dirty and p_bundle.expires_at > clock_timestamp()
    and not rollcall.is_contradicted(p_bundle, true);
end
$$;
comment on function rollcall.is_fresh is 'Whether a bundle may be served at this moment.';
grant execute on function rollcall.is_fresh to service_role;

-- The same of one of the caller's bundles, in the caller's statement and so in its snapshot; false for any other.
-- Definer: see is_contradicted; answers for auth.uid() only.
create function rollcall.my_bundle_is_fresh(p_bundle uuid) returns boolean
  language sql stable security definer set search_path = ''
as $$
  select coalesce((
    select rollcall.is_fresh(b) from public.context_bundles b where b.id = p_bundle and b.user_id = auth.uid()), false)
$$;
comment on function rollcall.my_bundle_is_fresh is 'Whether one of the caller''s bundles may be served at this moment.';
grant execute on function rollcall.my_bundle_is_fresh to authenticated, service_role;

-- Sets the dirty flag of those bundles that have none and that nobody holds, counts a miss, queues one entry for each,
-- and notifies. Returns how many.
-- Definer: bundles and their queue are the server's.
create function rollcall.flag_bundles(p_bundles uuid[], p_trigger text) returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_users uuid[];
  v_count bigint;
begin
  with free as (
    select b.id from public.context_bundles b
    where b.id = any (p_bundles) and not b.dirty
    order by b.id for no key update skip locked
  ),
  flagged as (
    update public.context_bundles b set dirty = true, miss_count = b.miss_count + 1
    from free where b.id = free.id
    returning b.id, b.user_id
  ),
  queued as (
    insert into public.system_actions (user_id, kind, bundle_id, trigger)
    select f.user_id, 'compile', f.id, p_trigger from flagged f
    on conflict (bundle_id) where status = 'pending' and bundle_id is not null do nothing
  )
  select array_agg(distinct f.user_id), count(*) into v_users, v_count from flagged f;
  -- Also where none was free: whoever hears it looks at the marks.
  if v_count > 0 or cardinality(p_bundles) > 0 then
    perform pg_notify('rollcall_bundles', 'dirty');
  end if;
  return v_count;
end
$$;
comment on function rollcall.flag_bundles is 'Flags bundles as dirty and queues their recompilation; returns how many.';

-- Leaves marks and flags what they concern. The lists are of one length; nulls as in context_marks.
-- Definer: called from triggers of whoever changes a source.
create function rollcall.note_changes(p_trigger text, p_kinds text[], p_users uuid[], p_refs uuid[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_touched uuid[];
begin
  insert into rollcall.context_marks (kind, user_id, ref)
    select distinct c.kind, c.user_id, c.ref from unnest(p_kinds, p_users, p_refs) as c (kind, user_id, ref);
  if not found then
    return;
  end if;
  -- In a snapshot that began before, flags would be set on what may have been replaced since: the marks stand alone,
  -- and whoever hears of them sets the flags.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    perform pg_notify('rollcall_bundles', 'dirty');
    return;
  end if;
  select array_agg(distinct t) into v_touched
  from unnest(p_kinds, p_users, p_refs) as c (kind, user_id, ref)
  cross join lateral rollcall.bundles_touched(c.kind, c.user_id, c.ref) t;
  if v_touched is not null then
    perform rollcall.flag_bundles(v_touched, p_trigger);
  end if;
end
$$;

-- Sets the flags that marks ask for and that could not be set in the change's own transaction, and notes that these
-- marks have been seen. Returns how many flags.
-- Invariant: no bundle is stored while this runs (the lock, which store_bundles shares), so each bundle that is there
-- afterwards either was judged here or is judged by all marks when it is stored.
-- Definer: acts on everybody's bundles; for the server.
create function rollcall.settle_bundles() returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_marks bigint[];
  v_touched uuid[];
  v_count bigint := 0;
begin
  if not exists (select from rollcall.context_marks m where m.seen_at is null) then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0));
  with unseen as (
    select m.id, m.kind, m.user_id, m.ref from rollcall.context_marks m where m.seen_at is null order by m.id limit 10000
  )
  select array(select u.id from unseen u), array(
      select distinct b.id from (select distinct u.kind, u.user_id, u.ref from unseen u) d
      cross join lateral rollcall.bundles_touched(d.kind, d.user_id, d.ref) t
      join public.context_bundles b on b.id = t and not b.dirty and rollcall.is_contradicted(b, true))
    into v_marks, v_touched;
  if v_touched <> '{}' then
    v_count := rollcall.flag_bundles(v_touched, 'settled');
  end if;
  -- Where a bundle was held at this moment, the marks are looked at again.
  if v_count = cardinality(v_touched) then
    update rollcall.context_marks m set seen_at = clock_timestamp() where m.id = any (v_marks);
  end if;
  return v_count;
end
$$;
comment on function rollcall.settle_bundles is 'Sets the dirty flags that changes left to be set; returns how many.';
grant execute on function rollcall.settle_bundles to service_role;

-- Triggers ---------------------------------------------------------------------------------------------------------
-- One function a table; the transition tables `gone` and `come` hold the old and the new rows. All are definer: whoever
-- changes a source need have no right on bundles, marks and queue.

-- Messages: the bundle of their conversation, for everyone who takes part. A model's empty message, while it is being
-- written, is in no bundle.
create function rollcall.on_messages_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_conversations uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(distinct c.conversation_id) into v_conversations from come c where c.state <> 'pending';
    -- In one order, so that two who speak in several conversations at once do not wait for each other for ever.
    perform from public.conversations c where c.id = any (v_conversations) order by c.id for no key update;
    update public.conversations c set last_message_at = greatest(c.last_message_at, l.at)
      from (select m.conversation_id, max(m.created_at) as at from come m where m.state <> 'pending' group by 1) l
      where c.id = l.conversation_id;
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
    perform rollcall.note_changes(
      'message_' || case tg_op when 'INSERT' then 'created' when 'DELETE' then 'deleted' else 'updated' end,
      array_fill('message'::text, array[cardinality(v_conversations)]),
      array_fill(null::uuid, array[cardinality(v_conversations)]), v_conversations);
  end if;
  return null;
end
$$;

-- Memories: identity and preferences only where the memory was or is of those that they choose from; topics by name.
create function rollcall.on_memories_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(k.kind), array_agg(c.user_id), array_agg(k.ref) into v_kinds, v_users, v_refs
    from come c cross join lateral rollcall.memory_kinds(c.id, c.category, c.importance, c.is_active) k;
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
    perform rollcall.note_changes('memory_' || case tg_op when 'INSERT' then 'created' when 'DELETE' then 'deleted' else 'updated' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;

-- What a memory like this may be in. Invoker: looks at nothing but its arguments.
create function rollcall.memory_kinds(p_id uuid, p_category text, p_importance real, p_is_active boolean)
  returns table (kind text, ref uuid)
  language sql immutable security invoker set search_path = '' rows 2
as $$
  select 'identity', null::uuid
    where p_is_active and p_category in ('biography', 'identity', 'role') and p_importance >= 0.8::real
  union all
  select 'prefs', null where p_is_active and p_category = 'preference' and p_importance >= 0.6::real
  union all
  select 'memory', p_id where p_is_active
$$;

-- Instructions: the preferences where they hold always, else their topic.
create function rollcall.on_instructions_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(case c.scope when 'topic' then 'topic' else 'prefs' end), array_agg(c.user_id), array_agg(c.topic_id)
      into v_kinds, v_users, v_refs from come c where c.is_active;
  elsif tg_op = 'DELETE' then
    select array_agg(case g.scope when 'topic' then 'topic' else 'prefs' end), array_agg(g.user_id), array_agg(g.topic_id)
      into v_kinds, v_users, v_refs from gone g where g.is_active;
  else
    select array_agg(case x.scope when 'topic' then 'topic' else 'prefs' end), array_agg(x.user_id), array_agg(x.topic_id)
      into v_kinds, v_users, v_refs
    from gone g join come c on c.id = g.id
    cross join lateral (values (g.scope, g.user_id, g.topic_id, g.is_active), (c.scope, c.user_id, c.topic_id, c.is_active))
      x (scope, user_id, topic_id, is_active)
    where x.is_active
      and (g.user_id, g.content, g.scope, g.topic_id, g.priority, g.is_active, g.created_at)
        is distinct from (c.user_id, c.content, c.scope, c.topic_id, c.priority, c.is_active, c.created_at);
  end if;
  if v_kinds is not null then
    perform rollcall.note_changes(case tg_op when 'DELETE' then 'instruction_deleted' else 'instruction_changed' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;

-- Units: a new one is in no topic and no entity until something links it, and links have triggers of their own, as has
-- a deleted one's link. So only what changes on a unit that is there matters.
create function rollcall.on_units_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  select array_agg(x.user_id), array_agg(c.id) into v_users, v_refs
  from gone g join come c on c.id = g.id
  cross join lateral (select g.user_id union select c.user_id) x (user_id)
  where (g.user_id, g.content, g.unit_type, g.quality, g.state, g.created_at)
    is distinct from (c.user_id, c.content, c.unit_type, c.quality, c.state, c.created_at);
  if v_refs is not null then
    perform rollcall.note_changes('acu_updated', array_fill('unit'::text, array[cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;

-- Topic profiles: their own bundle; and where they got another name, the conversations that are described by it.
create function rollcall.on_topics_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  select array_agg(x.kind), array_agg(x.user_id), array_agg(c.id) into v_kinds, v_users, v_refs
  from gone g join come c on c.id = g.id
  cross join lateral (
    select 'topic' as kind, c.user_id
    union all
    select 'label', u.user_id from (select g.user_id union select c.user_id) u (user_id)
      where g.label is distinct from c.label or g.user_id <> c.user_id
  ) x
  where (g.user_id, g.label, g.aliases, g.domain, g.conversation_count, g.unit_count, g.message_count, g.last_engaged_at,
      g.streak_days, g.proficiency, g.importance)
    is distinct from (c.user_id, c.label, c.aliases, c.domain, c.conversation_count, c.unit_count, c.message_count,
      c.last_engaged_at, c.streak_days, c.proficiency, c.importance);
  if v_refs is not null then
    perform rollcall.note_changes('topic_updated', v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;

create function rollcall.on_entities_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  select array_agg(c.user_id), array_agg(c.id) into v_users, v_refs
  from gone g join come c on c.id = g.id
  where (g.user_id, g.name, g.aliases, g.entity_type, g.relationship, g.sentiment, g.facts, g.mention_count,
      g.conversation_count, g.last_mentioned_at, g.importance)
    is distinct from (c.user_id, c.name, c.aliases, c.entity_type, c.relationship, c.sentiment, c.facts, c.mention_count,
      c.conversation_count, c.last_mentioned_at, c.importance);
  if v_refs is not null then
    perform rollcall.note_changes('entity_updated', array_fill('entity'::text, array[cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;

-- Conversations: a title stands in the conversation's bundle and in those of its topics.
create function rollcall.on_conversations_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_refs uuid[];
begin
  select array_agg(c.id) into v_refs
  from gone g join come c on c.id = g.id
  where (g.title, g.created_at, g.created_by) is distinct from (c.title, c.created_at, c.created_by);
  if v_refs is not null then
    perform rollcall.note_changes('conversation_updated', array_fill('conversation'::text, array[cardinality(v_refs)]),
      array_fill(null::uuid, array[cardinality(v_refs)]), v_refs);
  end if;
  return null;
end
$$;

-- Participants: whoever comes or goes sees another conversation, and other titles in their topics.
create function rollcall.on_participants_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op <> 'INSERT' then
    perform rollcall.note_participants(array_agg(g.conversation_id), array_agg(g.user_id)) from gone g;
  end if;
  if tg_op <> 'DELETE' then
    perform rollcall.note_participants(array_agg(c.conversation_id), array_agg(c.user_id)) from come c;
  end if;
  return null;
end
$$;

-- Definer: see note_changes.
create function rollcall.note_participants(p_conversations uuid[], p_users uuid[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  select array_agg(x.kind), array_agg(p.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
  from unnest(p_conversations, p_users) p (conversation_id, user_id)
  cross join lateral (
    select 'message' as kind, p.conversation_id as ref
    union all
    select 'topic', l.topic_id from public.topic_conversations l
    where l.conversation_id = p.conversation_id and l.user_id = p.user_id) x;
  if v_kinds is not null then
    perform rollcall.note_changes('conversation_updated', v_kinds, v_users, v_refs);
  end if;
end
$$;

-- Links of topics to conversations: both are described by the other.
create function rollcall.on_topic_conversations_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(x.kind), array_agg(c.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from come c cross join lateral (values ('topic', c.topic_id), ('message', c.conversation_id)) x (kind, ref);
  elsif tg_op = 'DELETE' then
    select array_agg(x.kind), array_agg(g.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from gone g cross join lateral (values ('topic', g.topic_id), ('message', g.conversation_id)) x (kind, ref);
  else
    -- Its key may change as well, so old and new are not matched row by row: what is in both is no change.
    select array_agg(x.kind), array_agg(d.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from (
      (select topic_id, conversation_id, user_id, relevance from gone
        except select topic_id, conversation_id, user_id, relevance from come)
      union all
      (select topic_id, conversation_id, user_id, relevance from come
        except select topic_id, conversation_id, user_id, relevance from gone)
    ) d cross join lateral (values ('topic', d.topic_id), ('message', d.conversation_id)) x (kind, ref);
  end if;
  if v_kinds is not null then
    perform rollcall.note_changes('topic_updated', v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;

create function rollcall.on_topic_units_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(c.user_id), array_agg(c.topic_id) into v_users, v_refs
    from (select distinct user_id, topic_id from come) c;
  elsif tg_op = 'DELETE' then
    select array_agg(g.user_id), array_agg(g.topic_id) into v_users, v_refs
    from (select distinct user_id, topic_id from gone) g;
  else
    select array_agg(d.user_id), array_agg(d.topic_id) into v_users, v_refs
    from (
      (select topic_id, unit_id, user_id, relevance from gone except select topic_id, unit_id, user_id, relevance from come)
      union all
      (select topic_id, unit_id, user_id, relevance from come except select topic_id, unit_id, user_id, relevance from gone)
    ) d;
  end if;
  if v_refs is not null then
    perform rollcall.note_changes('acu_linked', array_fill('topic'::text, array[cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;

create function rollcall.on_entity_units_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(c.user_id), array_agg(c.entity_id) into v_users, v_refs
    from (select distinct user_id, entity_id from come) c;
  elsif tg_op = 'DELETE' then
    select array_agg(g.user_id), array_agg(g.entity_id) into v_users, v_refs
    from (select distinct user_id, entity_id from gone) g;
  else
    select array_agg(d.user_id), array_agg(d.entity_id) into v_users, v_refs
    from (
      (select entity_id, unit_id, user_id from gone except select entity_id, unit_id, user_id from come)
      union all
      (select entity_id, unit_id, user_id from come except select entity_id, unit_id, user_id from gone)
    ) d;
  end if;
  if v_refs is not null then
    perform rollcall.note_changes('acu_linked', array_fill('entity'::text, array[cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;

-- TRUNCATE shows no rows, and so concerns every bundle.
create function rollcall.on_context_truncated() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall.note_changes('truncated', array['all'], array[null::uuid], array[null::uuid]);
  return null;
end
$$;

do $$
declare
  v_source record;
begin
  for v_source in
    select * from (values
      ('messages', 'on_messages_changed', 'iud'),
      ('memories', 'on_memories_changed', 'iud'),
      ('custom_instructions', 'on_instructions_changed', 'iud'),
      ('atomic_chat_units', 'on_units_changed', 'u'),
      ('topic_profiles', 'on_topics_changed', 'u'),
      ('entity_profiles', 'on_entities_changed', 'u'),
      ('conversations', 'on_conversations_changed', 'u'),
      ('conversation_participants', 'on_participants_changed', 'iud'),
      ('topic_conversations', 'on_topic_conversations_changed', 'iud'),
      ('topic_units', 'on_topic_units_changed', 'iud'),
      ('entity_units', 'on_entity_units_changed', 'iud')
    ) s (relation, function_name, events)
  loop
    if position('i' in v_source.events) > 0 then
      execute format('create trigger context_after_insert after insert on public.%I
        referencing new table as come for each statement execute function rollcall.%I()',
        v_source.relation, v_source.function_name);
    end if;
    if position('u' in v_source.events) > 0 then
      execute format('create trigger context_after_update after update on public.%I
        referencing old table as gone new table as come for each statement execute function rollcall.%I()',
        v_source.relation, v_source.function_name);
    end if;
    if position('d' in v_source.events) > 0 then
      execute format('create trigger context_after_delete after delete on public.%I
        referencing old table as gone for each statement execute function rollcall.%I()',
        v_source.relation, v_source.function_name);
    end if;
    execute format('create trigger context_after_truncate after truncate on public.%I
      for each statement execute function rollcall.on_context_truncated()', v_source.relation);
  end loop;
end
$$;

-- When a row was last changed. Invoker: touches only the row at hand.
create trigger stamp_updated before update on public.messages
  for each row execute function rollcall.stamp_settings();
create trigger stamp_updated before update on public.memories
  for each row execute function rollcall.stamp_settings();
create trigger stamp_updated before update on public.custom_instructions
  for each row execute function rollcall.stamp_settings();
create trigger stamp_updated before update on public.topic_profiles
  for each row execute function rollcall.stamp_settings();
create trigger stamp_updated before update on public.entity_profiles
  for each row execute function rollcall.stamp_settings();

revoke execute on all functions in schema rollcall from public;
