-- Module: context
-- Memory: the server takes units and memories from the messages of users, in the background. Each message is processed
-- once: its queue entry is deleted in the transaction that stores what was learned. At most one batch per user at a
-- time, on any node, by a lease that its holder must still have when it writes.

-- Appended to by transactions of the application, which therefore never wait here. Entries of deleted messages are
-- skipped when they are processed.
create table rollcall_internal.messages_to_learn (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  message_id uuid not null
);
comment on table rollcall_internal.messages_to_learn is
  'Messages that the server has not learned from yet, oldest first.';
create index messages_to_learn_user_id on rollcall_internal.messages_to_learn (user_id, id);
-- No policies: only the server uses it.
alter table rollcall_internal.messages_to_learn enable row level security;

create table rollcall_internal.learning_turns (
  user_id uuid primary key,
  lease uuid,
  lease_expires_at timestamptz,
  attempts int not null default 0,
  run_after timestamptz not null default now(),
  error text
);
comment on table rollcall_internal.learning_turns is 'Users whose messages a server processes, or will process again.';
-- No policies: only the server uses it.
alter table rollcall_internal.learning_turns enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  -- First: a server that is learning loses its lease and writes nothing.
  ('rollcall_internal.learning_turns', 'user_id', false, 6, 'when the server last learned from the user''s messages'),
  ('rollcall_internal.messages_to_learn', 'user_id', false, 7, 'ids only, deleted when the messages are processed');

-- Switches ------------------------------------------------------------------------------------------------------------

create table rollcall.memory_settings (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  conversation_id uuid references rollcall.conversations (id) on delete cascade,
  learns boolean not null default true,
  notebook_id uuid references rollcall.notebooks (id) on delete set null,
  updated_at timestamptz not null default now(),
  constraint memory_settings_subject unique nulls not distinct (user_id, conversation_id)
);
comment on table rollcall.memory_settings is
  'Whether the server learns from the messages of a user: in one conversation, or without one in any.';
comment on column rollcall.memory_settings.notebook_id is 'The notebook of what is learned there.';
create index memory_settings_conversation_id on rollcall.memory_settings (conversation_id)
  where conversation_id is not null;
create index memory_settings_notebook_id on rollcall.memory_settings (notebook_id) where notebook_id is not null;
alter table rollcall.memory_settings enable row level security;
create policy "own memory settings" on rollcall.memory_settings for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (notebook_id is null or notebook_id in (select n.id from rollcall.notebooks n))
    and (conversation_id is null or conversation_id in (select rollcall.my_conversations())));
create policy "service_role has full access" on rollcall.memory_settings
  for all to service_role using (true) with check (true);
revoke all on rollcall.memory_settings from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, conversation_id, learns, notebook_id), update (learns, notebook_id)
  on rollcall.memory_settings to authenticated;
grant all on rollcall.memory_settings to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.memory_settings', 'user_id', true, 40, null);

create trigger set_updated_at before update on rollcall.memory_settings
  for each row execute function rollcall_internal.set_updated_at();

-- Definer: triggers of any writer ask for the author of a message; tells nothing else.
create function rollcall_internal.learns_from(p_user uuid, p_conversation uuid) returns boolean
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return not exists (
    select from rollcall.memory_settings s
    where s.user_id = p_user and (s.conversation_id is null or s.conversation_id = p_conversation) and not s.learns);
end
$$;
comment on function rollcall_internal.learns_from is
  'Whether the server learns from messages of a user in a conversation: neither switch is off.';

-- Definer: for the server only.
create function rollcall_internal.notebook_of(p_user uuid, p_conversation uuid) returns uuid
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select s.notebook_id from rollcall.memory_settings s
  where s.user_id = p_user and (s.conversation_id is null or s.conversation_id = p_conversation)
    and s.notebook_id is not null
  order by s.conversation_id nulls last limit 1
$$;
comment on function rollcall_internal.notebook_of is
  'The notebook of what is learned from a user in a conversation: its own, else that of all conversations.';

-- Sources -------------------------------------------------------------------------------------------------------------

create table rollcall.memory_sources (
  memory_id uuid not null references rollcall.memories (id) on delete cascade,
  message_id uuid not null references rollcall.messages (id) on delete cascade,
  user_id uuid not null,
  created_at timestamptz not null default now(),
  constraint memory_sources_pkey primary key (memory_id, message_id)
);
comment on table rollcall.memory_sources is
  'The messages that a memory was learned from. Without the last of them the memory is deleted, unless it is pinned.';
create index memory_sources_message_id on rollcall.memory_sources (message_id);
create index memory_sources_user_id on rollcall.memory_sources (user_id);
alter table rollcall.memory_sources enable row level security;
-- Only the server writes it.
create policy "own sources of memories" on rollcall.memory_sources for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.memory_sources
  for all to service_role using (true) with check (true);
revoke all on rollcall.memory_sources from anon, authenticated, service_role;
grant select on rollcall.memory_sources to authenticated;
grant all on rollcall.memory_sources to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.memory_sources', 'user_id', true, null, 'deleted with the memory or the message');

-- The units of its messages that a memory was taken from: of each message, the one with most in common with it.
-- Definer: for triggers and the server only.
create function rollcall_internal.statements_of(p_memories uuid[]) returns setof uuid
  language sql stable security definer set search_path = pg_catalog, pg_temp rows 5
as $$
  select distinct on (s.memory_id, s.message_id) u.id
  from rollcall.memory_sources s
  join rollcall.memories m on m.id = s.memory_id
  join rollcall.atomic_chat_units u on u.message_id = s.message_id and u.user_id = s.user_id and u.is_learned
  cross join lateral (
    select count(*) as shared from unnest(u.grams) a join unnest(m.grams) b on b.lexeme = a.lexeme) c
  where s.memory_id = any (p_memories)
  order by s.memory_id, s.message_id, c.shared desc, u.created_at, u.id
$$;
comment on function rollcall_internal.statements_of is 'The statements that memories were learned from.';

-- What a deleted memory superseded is valid as long as that was. Pinned memories stay.
-- Definer: for triggers and the server only; acts on rows of p_user.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.delete_unfounded_memories(p_memories uuid[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_unfounded pg_catalog.uuid[];
begin
  -- Two transactions may each delete one of the last two messages. The second one waits here, and its next statement
  -- sees what the first one deleted.
  perform from rollcall.memories m where m.id = any (p_memories) order by m.id for update;
  v_unfounded := array(
    select m.id from rollcall.memories m
    where m.id = any (p_memories) and m.is_learned and not m.is_pinned
      and not exists (select from rollcall.memory_sources s where s.memory_id = m.id)
    order by m.id for update);
  -- Several of a chain may be deleted at once.
  with recursive chain as (
    select o.id, g.superseded_by as by, g.is_active, g.valid_until
    from rollcall.memories g join rollcall.memories o on o.superseded_by = g.id and o.user_id = g.user_id
    where g.id = any (v_unfounded) and o.id <> all (v_unfounded)
    union
    select c.id, g.superseded_by, g.is_active, g.valid_until
    from chain c join rollcall.memories g on g.id = c.by and g.id = any (v_unfounded)
  ),
  restored as (
    update rollcall.memories o set is_active = c.is_active, superseded_by = c.by, valid_until = c.valid_until
    from chain c where o.id = c.id and (c.by is null or c.by <> all (v_unfounded))
    returning o.id, o.is_active
  )
  update rollcall.atomic_chat_units u set state = 'active'
  where u.state = 'archived' and u.id in (
    select rollcall_internal.statements_of(array(select r.id from restored r where r.is_active)));
  delete from rollcall.memories m where m.id = any (v_unfounded);
  update rollcall.memories m set message_id = s.message_id, conversation_id = s.conversation_id
  from (
    select distinct on (x.memory_id) x.memory_id, x.message_id, t.conversation_id
    from rollcall.memory_sources x join rollcall.messages t on t.id = x.message_id
    where x.memory_id = any (p_memories) order by x.memory_id, t.created_at, t.id
  ) s
  where m.id = s.memory_id and m.message_id is distinct from s.message_id;
end
$$;
comment on function rollcall_internal.delete_unfounded_memories is
  'Deletes learned memories that no message is left of; others refer to a message that is left.';

-- Either the message was deleted, or the memory, whose statements are then forgotten too.
-- Definer: called by the referencing trigger of any writer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_memory_sources_deleted() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_memories pg_catalog.uuid[];
begin
  delete from rollcall.atomic_chat_units u using old_rows g
  where u.message_id = g.message_id and u.user_id = g.user_id and u.is_learned
    and not exists (select from rollcall.memories m where m.id = g.memory_id);
  select pg_catalog.array_agg(distinct g.memory_id) into v_memories
  from old_rows g join rollcall.memories m on m.id = g.memory_id;
  if v_memories is not null then
    perform rollcall_internal.delete_unfounded_memories(v_memories);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_memory_sources_deleted is
  'Trigger function: memories without a message left, and statements of deleted memories, are deleted.';

create trigger delete_unfounded after delete on rollcall.memory_sources
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_memory_sources_deleted();

-- Queue ---------------------------------------------------------------------------------------------------------------

-- At most 10,000 entries per user; messages beyond that are not learned from.
-- Definer: only the server writes the queue.
create function rollcall_internal.enqueue_messages() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rollcall_internal.messages_to_learn (user_id, message_id)
  select x.user_id, x.id
  from (
    select c.user_id, c.id, row_number() over (partition by c.user_id order by c.message_index) as n
    from new_rows c
    where c.role = 'user' and c.state = 'complete'
      and rollcall_internal.learns_from(c.user_id, c.conversation_id)
  ) x
  where x.n <= 10000 and not exists (
    select from rollcall_internal.messages_to_learn q where q.user_id = x.user_id offset 10000 limit 1)
  order by x.n;
  return null;
end
$$;
comment on function rollcall_internal.enqueue_messages is 'Trigger function: queues messages of users to learn from.';

create trigger enqueue_messages after insert on rollcall.messages
  referencing new table as new_rows for each statement execute function rollcall_internal.enqueue_messages();

-- Definer: only the server writes the queue.
create function rollcall_internal.enqueue_edited_message() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rollcall_internal.messages_to_learn (user_id, message_id)
  select new.user_id, new.id
  where not exists (
    select from rollcall_internal.messages_to_learn q where q.user_id = new.user_id offset 10000 limit 1);
  return null;
end
$$;
comment on function rollcall_internal.enqueue_edited_message is
  'Trigger function: queues an edited message, so that what was learned from its old text is replaced.';

create trigger enqueue_edited_message after update of content on rollcall.messages
  for each row when (old.content is distinct from new.content and new.role = 'user' and new.state = 'complete')
  execute function rollcall_internal.enqueue_edited_message();

-- What was said in a message whose fact is forgotten is not found by its words either.
-- Definer: called by the referencing trigger of any writer; deletes units of the same user and message only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.forget_units() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  delete from rollcall.atomic_chat_units u using old_rows g
  where g.is_learned and u.message_id = g.message_id and u.user_id = g.user_id and u.is_learned;
  return null;
end
$$;
comment on function rollcall_internal.forget_units is
  'Trigger function: deletes the learned units of the messages of deleted memories.';

create trigger forget_units after delete on rollcall.memories
  referencing old table as old_rows for each statement execute function rollcall_internal.forget_units();

-- Users in turns: those whose id is greater than p_after. Up to eight messages of a user; after a failure one, so that
-- one message does not stop the others.
-- Definer: for the server only.
create function rollcall_internal.claim_messages(p_after uuid, p_users int)
  returns table (user_id uuid, lease uuid, attempts int, entries bigint[], messages uuid[])
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_user uuid := p_after;
  v_turn rollcall_internal.learning_turns;
  v_claimed int := 0;
begin
  for v_step in 1 .. 200 loop
    select q.user_id into v_user from rollcall_internal.messages_to_learn q
    where q.user_id > v_user order by q.user_id limit 1;
    exit when not found or v_claimed >= p_users;
    insert into rollcall_internal.learning_turns as t (user_id) values (v_user) on conflict do nothing;
    update rollcall_internal.learning_turns t
    set lease = gen_random_uuid(), lease_expires_at = clock_timestamp() + interval '3 minutes',
      attempts = t.attempts + 1
    from (
      select x.user_id from rollcall_internal.learning_turns x
      where x.user_id = v_user and x.run_after <= clock_timestamp()
        and (x.lease is null or x.lease_expires_at < clock_timestamp())
      for update skip locked
    ) free
    where t.user_id = free.user_id
    returning t.* into v_turn;
    if found then
      v_claimed := v_claimed + 1;
      return query
        select v_user, v_turn.lease, v_turn.attempts, coalesce(array_agg(o.id order by o.id), '{}'),
          coalesce(array_agg(o.message_id order by o.id), '{}')
        from (
          select q.id, q.message_id from rollcall_internal.messages_to_learn q where q.user_id = v_user
          order by q.id limit case when v_turn.attempts > 1 then 1 else 8 end
        ) o;
    end if;
  end loop;
end
$$;
comment on function rollcall_internal.claim_messages is
  'Claims queued messages of some users, oldest first; a claim expires after three minutes.';

-- Those of the caller's messages that may be learned from, with what the caller and the model said just before, and
-- the memories that they may correct. Without p_memories these are not searched for.
-- Invoker: see bundle_sources.
create function rollcall.learning_sources(p_messages uuid[], p_memories boolean default true) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_text pg_catalog.text;
begin
  if p_memories then
    select left(pg_catalog.string_agg(left(m.content, 1000), ' '), 4000) into v_text
    from rollcall.messages m where m.id = any (p_messages) and m.user_id = v_me;
  end if;
  return pg_catalog.jsonb_build_object(
    'messages', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', m.id, 'content', left(m.content, 20000),
        'said_on', m.created_at::pg_catalog.date,
        'before', (
          select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('role', b.role, 'content', left(b.content,
            600))
            order by b.message_index), '[]')
          from (
            select * from rollcall.messages o
            where o.conversation_id = m.conversation_id and o.user_id = v_me and o.message_index < m.message_index
              and o.state in ('complete', 'partial')
            order by o.message_index desc limit 2
          ) b)) order by m.created_at, m.message_index)
      from rollcall.messages m
      where m.id = any (p_messages) and m.user_id = v_me and m.role = 'user' and m.state = 'complete'
        and not exists (
          select from rollcall.memory_settings s
          where s.user_id = v_me and (s.conversation_id is null or s.conversation_id = m.conversation_id)
            and not s.learns)), '[]'),
    'memories', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', k.id, 'content', left(k.content, 500), 'since',
        k.valid_from::pg_catalog.date)
        order by k.valid_from, k.id)
      from rollcall.memories k
      where v_text is not null and k.user_id = v_me and k.is_active
        and not (k.message_id is not null and k.message_id = any (p_messages))
        and (k.id in (select w.id from rollcall.match_words('memory', v_text, 20) w)
          or k.id in (
            select n.id from rollcall.memories n where n.user_id = v_me and n.is_active
            order by n.importance desc, n.created_at desc limit 30))), '[]'));
end
$$;
comment on function rollcall.learning_sources is 'What the server needs to learn from some of the callers messages.';
grant execute on function rollcall.learning_sources to authenticated, service_role;

-- p_found: {"messages": [{"id", "units": [text]}], "memories": [{"message_id", "content", "category", "importance",
-- "replaces": [ids]}], "forgotten": [{"message_id", "memories": [ids]}]}: memories that the message asks to forget,
-- which are deleted unless pinned. Replaces what was learned from an earlier text of the messages. Of two facts the one
-- that was said later is valid. Without entries the claim remains, for facts that are found later. Waits at most 300 ms
-- for a lock and skips nothing: the caller tries again after `busy`. Locks conversations before messages, as deleting a
-- conversation does.
-- Returns stored, lost (the lease) or busy.
-- Definer: writes columns that users may only read; every row is checked to belong to p_user.
-- Over 60 lines: queue, units and memories are written under one lease.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.store_learned(p_user uuid, p_lease uuid, p_entries bigint[], p_messages uuid[],
  p_found jsonb) returns text
  language plpgsql volatile security definer set lock_timeout = '300ms'
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_messages pg_catalog.uuid[];
  v_fact record;
  v_newer rollcall.memories;
  v_outdated pg_catalog.uuid[];
  v_id pg_catalog.uuid;
begin
  perform from rollcall_internal.learning_turns t
  where t.user_id = p_user and t.lease = p_lease and t.lease_expires_at > clock_timestamp() for update;
  if not found then
    return 'lost';
  end if;
  perform from rollcall.conversations c
  where c.id in (select m.conversation_id from rollcall.messages m where m.id = any (p_messages))
  order by c.id for key share;
  v_messages := array(
    select m.id from rollcall.messages m
    where m.id = any (p_messages) and m.user_id = p_user
      and rollcall_internal.learns_from(m.user_id, m.conversation_id)
    order by m.id for key share);

  delete from rollcall.atomic_chat_units u
  where u.message_id = any (v_messages) and u.user_id = p_user and u.is_learned;
  -- Its trigger deletes memories that were learned from these messages only.
  delete from rollcall.memory_sources s using rollcall.memories m
  where s.message_id = any (v_messages) and s.user_id = p_user and m.id = s.memory_id and m.is_learned;

  insert into rollcall.atomic_chat_units (user_id, conversation_id, message_id, notebook_id, content, is_learned,
    created_at)
  select p_user, m.conversation_id, m.id, rollcall_internal.notebook_of(p_user, m.conversation_id),
    left(t.text, 20000), true, m.created_at
  from pg_catalog.jsonb_to_recordset(p_found -> 'messages') x (id uuid, units jsonb)
  join rollcall.messages m on m.id = x.id and m.id = any (v_messages)
  cross join lateral jsonb_array_elements_text(x.units) with ordinality t (text, n)
  order by m.created_at, m.message_index, t.n;

  for v_fact in
    select x.content, x.category, x.importance, x.replaces, m.id as message_id, m.conversation_id, m.created_at
    from pg_catalog.jsonb_to_recordset(p_found -> 'memories')
      x (message_id uuid, content text, category text, importance real, replaces uuid[])
    join rollcall.messages m on m.id = x.message_id and m.id = any (v_messages)
    order by m.created_at, m.message_index
  loop
    -- Said again: one memory with one more source.
    select k.id into v_id from rollcall.memories k
    where k.user_id = p_user and k.is_active and lower(k.content) = lower(v_fact.content)
    order by k.valid_from limit 1;
    if found then
      insert into rollcall.memory_sources (memory_id, message_id, user_id)
      select k.id, v_fact.message_id, p_user from rollcall.memories k where k.id = v_id and k.is_learned
      on conflict do nothing;
      continue;
    end if;
    select * into v_newer from rollcall.memories o
    where o.id = any (v_fact.replaces) and o.user_id = p_user and o.is_active and o.valid_from > v_fact.created_at
    order by o.valid_from limit 1;
    insert into rollcall.memories (user_id, content, category, importance, is_active, is_learned, conversation_id,
      notebook_id, message_id, valid_from, valid_until, superseded_by)
    values (p_user, v_fact.content, v_fact.category, v_fact.importance, v_newer.id is null, true,
      v_fact.conversation_id, rollcall_internal.notebook_of(p_user, v_fact.conversation_id), v_fact.message_id,
      v_fact.created_at, v_newer.valid_from, v_newer.id)
    returning id into v_id;
    insert into rollcall.memory_sources (memory_id, message_id, user_id) values (v_id, v_fact.message_id, p_user);
    with superseded as (
      update rollcall.memories o set is_active = false, superseded_by = v_id, valid_until = v_fact.created_at
      where o.id = any (v_fact.replaces) and o.user_id = p_user and o.is_active and not o.is_pinned
        and o.valid_from <= v_fact.created_at
      returning o.id
    )
    select array_agg(o.id) into v_outdated from superseded o;
    if v_newer.id is not null then
      v_outdated := array_append(v_outdated, v_id);
    end if;
    if v_outdated is not null then
      -- Nor is the outdated statement found by its words.
      update rollcall.atomic_chat_units u set state = 'archived'
      where u.state = 'active' and u.id in (select rollcall_internal.statements_of(v_outdated));
    end if;
  end loop;

  for v_fact in
    select m.id as message_id, x.memories
    from pg_catalog.jsonb_to_recordset(p_found -> 'forgotten') x (message_id uuid, memories uuid[])
    join rollcall.messages m on m.id = x.message_id and m.id = any (v_messages)
  loop
    delete from rollcall.memories k
    where k.id = any (v_fact.memories) and k.user_id = p_user and not k.is_pinned;
    delete from rollcall.atomic_chat_units u
    where u.message_id = v_fact.message_id and u.user_id = p_user and u.is_learned;
  end loop;

  if p_entries <> '{}' then
    delete from rollcall_internal.messages_to_learn q where q.id = any (p_entries) and q.user_id = p_user;
    delete from rollcall_internal.learning_turns t where t.user_id = p_user;
  end if;
  return 'stored';
exception when lock_not_available or deadlock_detected then
  return 'busy';
end
$$;
comment on function rollcall_internal.store_learned is
  'Stores what was learned from messages and deletes their queue entries, once.';

-- p_drop: entries that are given up.
-- Definer: for the server only.
create function rollcall_internal.postpone_learning(p_user uuid, p_lease uuid, p_error text, p_wait interval,
  p_drop bigint[]) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update rollcall_internal.learning_turns t
  set lease = null, lease_expires_at = null, error = left(p_error, 1000), run_after = clock_timestamp() + p_wait,
    attempts = case when p_drop = '{}' then t.attempts else 0 end
  where t.user_id = p_user and t.lease = p_lease;
  if found then
    delete from rollcall_internal.messages_to_learn q where q.id = any (p_drop) and q.user_id = p_user;
  end if;
end
$$;
comment on function rollcall_internal.postpone_learning is 'Releases a failed claim, to be tried again later.';

-- Search --------------------------------------------------------------------------------------------------------------

-- p_filters: kind (memory or unit), notebookId, conversationId, from, until. Filters apply to the best 500 matches of
-- each kind; without filters some more than p_limit are enough.
-- Invoker: see bundle_sources.
create function rollcall.search(p_text text, p_vector text, p_filters jsonb, p_limit int) returns table (found jsonb)
  language plpgsql stable security invoker rows 20
as $$
declare
  v_units pg_catalog.uuid[];
  v_unit_scores real[];
  v_memories pg_catalog.uuid[];
  v_memory_scores real[];
  v_depth constant int := case when p_filters - 'kind' = '{}' then 3 * p_limit + 20 else 500 end;
begin
  select array_agg(m.id), array_agg(m.score) into v_units, v_unit_scores
  from rollcall.match_words('unit', p_text, v_depth) m where coalesce(p_filters ->> 'kind', 'unit') = 'unit';
  select array_agg(m.id), array_agg(m.score) into v_memories, v_memory_scores
  from rollcall.match_words('memory', p_text, v_depth) m where coalesce(p_filters ->> 'kind', 'memory') = 'memory';
  if p_vector is not null and coalesce(p_filters ->> 'kind', 'unit') = 'unit' then
    select array_agg(m.id), array_agg(m.score) into v_units, v_unit_scores
    from rollcall.merge_embeddings('unit', v_units, v_unit_scores, p_vector, 0.35, v_depth) m;
  end if;
  if p_vector is not null and coalesce(p_filters ->> 'kind', 'memory') = 'memory' then
    select array_agg(m.id), array_agg(m.score) into v_memories, v_memory_scores
    from rollcall.merge_embeddings('memory', v_memories, v_memory_scores, p_vector, 0.40, v_depth) m;
  end if;
  return query
    select jsonb_build_object('kind', x.kind, 'id', x.id, 'content', x.content, 'score', x.score,
      'conversationId', x.conversation_id, 'messageId', x.message_id, 'notebookId', x.notebook_id,
      'createdAt', x.created_at)
    from (
      select 'unit' as kind, u.id, u.content, s.score, u.conversation_id, u.message_id, u.notebook_id, u.created_at
      from unnest(v_units, v_unit_scores) s (id, score)
      cross join lateral (
        select * from rollcall.atomic_chat_units o where o.id = s.id and o.state = 'active' offset 0) u
      union all
      select 'memory', m.id, m.content, s.score, m.conversation_id, m.message_id, m.notebook_id, m.created_at
      from unnest(v_memories, v_memory_scores) s (id, score)
      cross join lateral (select * from rollcall.memories o where o.id = s.id and o.is_active offset 0) m
    ) x
    where (p_filters -> 'notebookId' is null or x.notebook_id = (p_filters ->> 'notebookId')::pg_catalog.uuid)
      and (p_filters -> 'conversationId' is null
        or x.conversation_id = (p_filters ->> 'conversationId')::pg_catalog.uuid)
      and (p_filters -> 'from' is null or x.created_at >= (p_filters ->> 'from')::pg_catalog.timestamptz)
      and (p_filters -> 'until' is null or x.created_at < (p_filters ->> 'until')::pg_catalog.timestamptz)
    order by x.score desc, x.created_at desc, x.id
    limit p_limit;
end
$$;
comment on function rollcall.search is 'The callers memories and units that match a text, best first.';
grant execute on function rollcall.search to authenticated, service_role;

-- Usage of models -----------------------------------------------------------------------------------------------------

create table rollcall.model_usage (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  purpose text not null,
  provider text not null,
  model text not null,
  prompt_tokens bigint not null,
  completion_tokens bigint not null,
  cost numeric,
  created_at timestamptz not null default now()
);
comment on table rollcall.model_usage is 'Calls to models with their tokens; kept for 400 days.';
comment on column rollcall.model_usage.purpose is 'chat, summary, roll_up or memory.';
comment on column rollcall.model_usage.cost is 'By the prices in LLM_PRICES; null for a model without a price.';
create index model_usage_user_id on rollcall.model_usage (user_id, created_at desc);
create index model_usage_created_at on rollcall.model_usage (created_at);
alter table rollcall.model_usage enable row level security;
-- Only the server writes it.
create policy "own usage" on rollcall.model_usage for select to authenticated using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.model_usage
  for all to service_role using (true) with check (true);
revoke all on rollcall.model_usage from anon, authenticated, service_role;
grant select on rollcall.model_usage to authenticated;
grant all on rollcall.model_usage to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.model_usage', 'user_id', true, 85, null);

-- Definer: for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.record_model_usage(p_user uuid, p_purpose text, p_provider text, p_model text,
  p_prompt bigint, p_completion bigint, p_cost numeric) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  insert into rollcall.model_usage (user_id, purpose, provider, model, prompt_tokens, completion_tokens, cost)
    values (p_user, p_purpose, p_provider, p_model, p_prompt, p_completion, p_cost);
end
$$;
comment on function rollcall_internal.record_model_usage is 'Records one call to a model.';

-- A day begins at midnight UTC.
-- Definer: for the server only.
create function rollcall_internal.tokens_used_today(p_user uuid) returns bigint
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(sum(u.prompt_tokens + u.completion_tokens), 0)::bigint from rollcall.model_usage u
    where u.user_id = p_user and u.created_at >= date_trunc('day', now(), 'UTC'));
end
$$;
comment on function rollcall_internal.tokens_used_today is 'Tokens that models used for a user since midnight UTC.';
