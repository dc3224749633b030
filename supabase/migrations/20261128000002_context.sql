-- Generated from supabase/schemas by `make schema`; edit those files instead.

-- schemas/70_context_tables.sql --------------------------------------------------------------------------------------

-- What the context engine knows about a user: messages, units of knowledge, memories, instructions, the profiles that
-- the roll-up makes of them, and the bundles that are compiled from all of it. Every row belongs to its user, except
-- messages, which all participants of a conversation read.

create type rollcall.message_role as enum ('user', 'assistant', 'system');
create type rollcall.message_state as enum ('pending', 'complete', 'partial', 'failed');
create type rollcall.unit_state as enum ('active', 'archived');
create type rollcall.instruction_scope as enum ('global', 'topic');
create type rollcall.topic_domain as enum ('engineering', 'personal', 'creative', 'business', 'health', 'finance');
create type rollcall.proficiency as enum ('beginner', 'intermediate', 'advanced', 'expert', 'unknown');
create type rollcall.entity_type as enum ('person', 'project', 'organization', 'tool', 'concept');
create type rollcall.bundle_type as enum (
  'identity_core', 'global_prefs', 'topic', 'entity', 'conversation', 'composite'
);
create type rollcall.action_status as enum ('pending', 'processing', 'completed', 'failed');

-- Trigram similarity of two names from 0 to 1 by pg_trgm where available; else by prefixes, which is coarser. Without
-- a search_path of its own, so that it is inlined; every name in it is qualified. Invoker: computes from its
-- arguments.
do $$
declare
  v_schema text;
begin
  if not exists (select from pg_extension where extname = 'pg_trgm') then
    begin
      create extension pg_trgm with schema extensions;
      insert into rollcall_internal.installed_objects (kind, name, undo)
        values ('extension', 'pg_trgm', 'drop extension if exists pg_trgm');
    exception when others then
      raise notice 'pg_trgm is not available (%): names are compared without trigrams', sqlerrm;
    end;
  end if;
  select n.nspname into v_schema
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_trgm';
  if v_schema is not null then
    execute pg_catalog.format($f$
      create function rollcall.similarity(p_one text, p_other text) returns real
        language sql immutable parallel safe security invoker
      as 'select %1$I.similarity(p_one, p_other)'$f$, v_schema);
  else
    create function rollcall.similarity(p_one text, p_other text) returns real
      language sql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
    as $f$
      select case
        when lower(p_one) = lower(p_other) then 1
        when length(p_one) > 3 and length(p_other) > 3
          and (starts_with(lower(p_one), lower(p_other)) or starts_with(lower(p_other), lower(p_one)))
          then least(length(p_one), length(p_other))::real / greatest(length(p_one), length(p_other))
        else 0
      end
    $f$;
  end if;
end
$$;
comment on function rollcall.similarity is 'How similar two names are, from 0 to 1.';
revoke execute on function rollcall.similarity from public;
grant execute on function rollcall.similarity to authenticated, service_role;

-- Immutable, for generated columns. For each word its trigrams with a space on both sides; for scripts without spaces
-- (Han, kana, Thai, Lao, Khmer, Burmese) pairs of characters. Character classes and lower() depend on the locale of the
-- database, so ranges and letters are listed.
-- Invoker: computes from its argument.
create function rollcall_internal.search_grams(p_text text) returns tsvector
  language plpgsql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(array_to_tsvector(array_agg(distinct g.gram)), '')
    from (
      select r[1] as word, r[2] as run
      from regexp_matches(
        translate(lower(left(p_text, 20000)),
          'ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞ'
            'ĂĄĆČĎĐĘĚĞİŁŃŇŐŒŘŚŞŠŢŤŮŰŸŹŻŽ'
            'ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ'
            'АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЄІЇҐ',
          'àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþ'
            'ăąćčďđęěğiłńňőœřśşšţťůűÿźżž'
            'αβγδεζηθικλμνξοπρστυφχψω'
            'абвгдеёжзийклмнопрстуфхцчшщъыьэюяєіїґ'),
        '([0-9a-z\u00aa\u00b5\u00ba\u00c0-\u02af\u0300-\u05ff\u0610-\u061a\u0620-\u0669\u066e-\u06d3\u06d5-\u0963'
          '\u0966-\u0dff\u10a0-\u177f\u1800-\u1fff\ua000-\ud7a3]+)'
          '|([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff'
          '\uf900-\ufaff\U00020000-\U0003134f]+)',
        'g') r
    ) w
    cross join lateral (
      select substr(' ' || w.word || ' ', n, 3) as gram from generate_series(1, length(w.word)) n
      union all
      select substr(w.run, n, 2) from generate_series(1, greatest(length(w.run) - 1, 1)) n where w.run is not null
    ) g);
end
$$;
comment on function rollcall_internal.search_grams is 'Parts of the words of a text, for search in every language.';
grant execute on function rollcall_internal.search_grams to authenticated, service_role;

-- Immutable, for generated columns; executable by roles that write them.
-- Invoker: computes from its arguments.
create function rollcall_internal.names_tsquery(p_name text, p_aliases text[]) returns tsquery
  language plpgsql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
  v_part tsquery;
  v_all tsquery;
begin
  foreach v_name in array array[p_name] || coalesce(p_aliases, '{}') loop
    v_part := phraseto_tsquery('pg_catalog.english', v_name);
    if numnode(v_part) > 0 then
      v_all := case when v_all is null then v_part else v_all || v_part end;
    end if;
  end loop;
  return v_all;
end
$$;
comment on function rollcall_internal.names_tsquery is
  'A query that matches any of these names as a phrase; null where no name has a word.';
grant execute on function rollcall_internal.names_tsquery to authenticated, service_role;

-- Definer: a policy on topic_profiles that reads topic_profiles would recurse. Answers for auth.uid() only.
create function rollcall.my_topics() returns setof uuid
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 100
as $$
begin
  return query select t.id from rollcall.topic_profiles t where t.user_id = auth.uid();
end
$$;
comment on function rollcall.my_topics is 'Topics of the caller.';
grant execute on function rollcall.my_topics to authenticated, service_role;

-- Messages ------------------------------------------------------------------------------------------------------------

create table rollcall.messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  role rollcall.message_role not null default 'user',
  content text not null constraint messages_content_length check (char_length(content) <= 1000000),
  parts jsonb not null default '[]' constraint messages_parts_is_a_list check (jsonb_typeof(parts) = 'array'),
  message_index bigint not null,
  token_count int constraint messages_token_count_is_a_count check (token_count >= 0),
  state rollcall.message_state not null default 'complete',
  idempotency_key text constraint messages_idempotency_key_length check (char_length(idempotency_key) between 1
    and 255),
  reply_to uuid references rollcall.messages (id) on delete set null,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table rollcall.messages is 'Messages in conversations, of users and of models.';
comment on column rollcall.messages.user_id is 'The author; of a model''s message, the user that asked.';
comment on column rollcall.messages.message_index is
  'Increases within a conversation, with gaps: the microsecond of the message, set by a trigger. Messages of '
  'concurrent transactions may have the same.';
comment on column rollcall.messages.state is
  'pending: a model is answering; partial: the answer was cut off; failed: there is none. Users'' messages are '
  'complete.';
comment on column rollcall.messages.idempotency_key is
  'The client''s name of the request, so that a repeat saves nothing twice.';
-- One question and one answer per request, however often it is sent.
create unique index messages_idempotency on rollcall.messages (conversation_id, user_id, role, idempotency_key)
  where idempotency_key is not null;
-- Not unique: of two concurrent transactions, none must fail because of the other's microsecond.
create index messages_message_index on rollcall.messages (conversation_id, message_index);
create index messages_reply_to on rollcall.messages (reply_to) where reply_to is not null;
create index messages_user_id on rollcall.messages (user_id);
-- For touch_answer and purge_pending_answers.
create index messages_pending on rollcall.messages (updated_at) where state = 'pending';
alter table rollcall.messages enable row level security;
create policy "participants read messages" on rollcall.messages
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversations()));
-- Only as the user: participants trust the words of models, which only the server writes.
create policy "participants write messages" on rollcall.messages
  for insert to authenticated
  with check (user_id = (select auth.uid()) and role = 'user' and state = 'complete'
    and conversation_id in (select rollcall.my_conversations()));
create policy "authors edit their messages" on rollcall.messages
  for update to authenticated
  using (user_id = (select auth.uid()) and role = 'user' and conversation_id in (select rollcall.my_conversations()))
  with check (user_id = (select auth.uid()) and role = 'user'
    and conversation_id in (select rollcall.my_conversations()));
create policy "users delete their messages and answers to them" on rollcall.messages
  for delete to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.messages
  for all to service_role using (true) with check (true);
revoke all on rollcall.messages from anon, authenticated, service_role;
grant select, delete, insert (id, conversation_id, user_id, role, content, parts, token_count, idempotency_key,
  metadata),
  update (content, parts, token_count, metadata) on rollcall.messages to authenticated;
grant all on rollcall.messages to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.messages', 'user_id', true, 49, null);

create trigger set_updated_at before update on rollcall.messages
  for each row execute function rollcall_internal.set_updated_at();

-- A time, because a sequence would count the messages of all conversations. One more than the last message where the
-- clock was set back.
-- Definer: reads messages that the author may not see; writes only the new row.
create function rollcall_internal.set_message_index() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.message_index := greatest(
    (extract(epoch from clock_timestamp()) * 1000000)::bigint,
    (select m.message_index from rollcall.messages m where m.conversation_id = new.conversation_id
      order by m.message_index desc limit 1) + 1);
  return new;
end
$$;
comment on function rollcall_internal.set_message_index is
  'Trigger function: numbers a message after the last one of its conversation.';

create trigger set_message_index before insert on rollcall.messages
  for each row when (new.message_index is null) execute function rollcall_internal.set_message_index();

-- Locks in the order of ids, so that concurrent senders do not deadlock.
-- Definer: senders need no right to write conversations.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.set_last_message() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  update rollcall.conversations c set last_message_at = greatest(c.last_message_at, l.at)
  from (
    select k.id, m.at
    from (select x.conversation_id, max(x.created_at) as at from new_rows x where x.state <> 'pending' group by 1) m
    join rollcall.conversations k on k.id = m.conversation_id
      and (k.last_message_at is null or k.last_message_at < m.at)
    order by k.id for no key update of k
  ) l
  where c.id = l.id;
  return null;
end
$$;
comment on function rollcall_internal.set_last_message is
  'Trigger function: sets the time of a conversations last message.';

create trigger set_last_message after insert on rollcall.messages
  referencing new table as new_rows for each statement execute function rollcall_internal.set_last_message();

-- Sources -------------------------------------------------------------------------------------------------------------

create table rollcall.notebooks (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  title text not null constraint notebooks_title_length check (char_length(title) between 1 and 255),
  created_at timestamptz not null default now()
);
comment on table rollcall.notebooks is
  'Namespaces of memories, units and conversations, such as projects; signals may name one.';
create index notebooks_user_id on rollcall.notebooks (user_id);
alter table rollcall.notebooks enable row level security;
create policy "own notebooks" on rollcall.notebooks for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.notebooks
  for all to service_role using (true) with check (true);
revoke all on rollcall.notebooks from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, title), update (title) on rollcall.notebooks to authenticated;
grant all on rollcall.notebooks to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.notebooks', 'user_id', true, 48, null);

create table rollcall.atomic_chat_units (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  conversation_id uuid references rollcall.conversations (id) on delete set null,
  message_id uuid references rollcall.messages (id) on delete cascade,
  content text not null constraint atomic_chat_units_content_length check (char_length(content) between 1 and 20000),
  unit_type text not null default 'statement'
    constraint atomic_chat_units_unit_type_length check (char_length(unit_type) between 1 and 64),
  quality real not null default 0.5 constraint atomic_chat_units_quality_range check (quality between 0 and 1),
  state rollcall.unit_state not null default 'active',
  token_count int constraint atomic_chat_units_token_count_is_a_count check (token_count >= 0),
  processed_at timestamptz,
  is_learned boolean not null default false,
  notebook_id uuid references rollcall.notebooks (id) on delete set null,
  created_at timestamptz not null default now(),
  search tsvector not null generated always as (to_tsvector('english', content)) stored,
  grams tsvector not null generated always as (rollcall_internal.search_grams(content)) stored
);
comment on table rollcall.atomic_chat_units is
  'Units of knowledge: single statements, questions, insights or decisions.';
comment on column rollcall.atomic_chat_units.processed_at is 'When a roll-up processed it; null before.';
create index atomic_chat_units_user_id on rollcall.atomic_chat_units (user_id, created_at);
create index atomic_chat_units_unprocessed on rollcall.atomic_chat_units (user_id, created_at)
  where processed_at is null and state = 'active';
create index atomic_chat_units_conversation_id on rollcall.atomic_chat_units (conversation_id);
create index atomic_chat_units_notebook_id on rollcall.atomic_chat_units (notebook_id)
  where notebook_id is not null;
create index atomic_chat_units_message_id on rollcall.atomic_chat_units (message_id) where message_id is not null;
-- New rows go into the index at once: a pending list would be read by every search.
create index atomic_chat_units_search on rollcall.atomic_chat_units using gin (search) with (fastupdate = off);
create index atomic_chat_units_grams on rollcall.atomic_chat_units using gin (grams) with (fastupdate = off);
alter table rollcall.atomic_chat_units enable row level security;
create policy "own units" on rollcall.atomic_chat_units for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (notebook_id is null or notebook_id in (select n.id from rollcall.notebooks n))
    and (conversation_id is null or conversation_id in (select rollcall.my_conversations())));
create policy "service_role has full access" on rollcall.atomic_chat_units
  for all to service_role using (true) with check (true);
revoke all on rollcall.atomic_chat_units from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, conversation_id, message_id, notebook_id, content, unit_type, quality, state,
  token_count, created_at),
  update (conversation_id, notebook_id, content, unit_type, quality, state,
    token_count) on rollcall.atomic_chat_units to authenticated;
grant all on rollcall.atomic_chat_units to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.atomic_chat_units', 'user_id', true, 43, null);

create table rollcall.memories (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  content text not null constraint memories_content_length check (char_length(content) between 1 and 10000),
  category text not null default 'general'
    constraint memories_category_length check (char_length(category) between 1 and 64),
  importance real not null default 0.5 constraint memories_importance_range check (importance between 0 and 1),
  is_active boolean not null default true,
  is_pinned boolean not null default false,
  is_learned boolean not null default false,
  notebook_id uuid references rollcall.notebooks (id) on delete set null,
  conversation_id uuid references rollcall.conversations (id) on delete set null,
  message_id uuid references rollcall.messages (id) on delete set null,
  valid_from timestamptz not null default now(),
  valid_until timestamptz,
  superseded_by uuid references rollcall.memories (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  search tsvector not null generated always as (to_tsvector('english', content)) stored,
  grams tsvector not null generated always as (rollcall_internal.search_grams(content)) stored
);
comment on table rollcall.memories is 'What is to be remembered about a user.';
comment on column rollcall.memories.is_pinned is 'In every prompt, and never superseded by what the server learns.';
comment on column rollcall.memories.is_learned is 'The server took it from the message.';
comment on column rollcall.memories.valid_until is 'When a newer memory superseded it.';
comment on column rollcall.memories.category is
  'biography, identity and role describe the user, preference what they like; others are used when they match.';
create index memories_user_id on rollcall.memories (user_id, category, importance desc) where is_active;
create index memories_newest on rollcall.memories (user_id, created_at desc);
create index memories_conversation_id on rollcall.memories (conversation_id) where conversation_id is not null;
create index memories_notebook_id on rollcall.memories (notebook_id) where notebook_id is not null;
create index memories_message_id on rollcall.memories (message_id) where message_id is not null;
create index memories_superseded_by on rollcall.memories (superseded_by) where superseded_by is not null;
-- New rows go into the index at once: a pending list would be read by every search.
create index memories_search on rollcall.memories using gin (search) with (fastupdate = off);
create index memories_grams on rollcall.memories using gin (grams) with (fastupdate = off);
alter table rollcall.memories enable row level security;
create policy "own memories" on rollcall.memories for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (notebook_id is null or notebook_id in (select n.id from rollcall.notebooks n)));
create policy "service_role has full access" on rollcall.memories
  for all to service_role using (true) with check (true);
revoke all on rollcall.memories from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, notebook_id, content, category, importance, is_active, is_pinned, valid_from,
  valid_until),
  update (notebook_id, content, category, importance, is_active, is_pinned, valid_from,
    valid_until) on rollcall.memories to authenticated;
grant all on rollcall.memories to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.memories', 'user_id', true, 44, null);

create trigger set_updated_at before update on rollcall.memories
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.personas (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  name text not null constraint personas_name_length check (char_length(name) between 1 and 255),
  description text constraint personas_description_length check (char_length(description) <= 10000),
  created_at timestamptz not null default now()
);
comment on table rollcall.personas is 'Personas of the application, as far as signals and bundles name one.';
create index personas_user_id on rollcall.personas (user_id);
alter table rollcall.personas enable row level security;
create policy "own personas" on rollcall.personas for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.personas
  for all to service_role using (true) with check (true);
revoke all on rollcall.personas from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, name, description),
  update (name, description) on rollcall.personas to authenticated;
grant all on rollcall.personas to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.personas', 'user_id', true, 47, null);

-- Profiles ------------------------------------------------------------------------------------------------------------

create table rollcall.topic_profiles (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  slug text not null constraint topic_profiles_slug_length check (char_length(slug) between 1 and 255),
  label text not null constraint topic_profiles_label_length check (char_length(label) between 1 and 255),
  aliases text[] not null default '{}' constraint topic_profiles_aliases_count check (cardinality(aliases) <= 50),
  parent_id uuid references rollcall.topic_profiles (id) on delete set null,
  domain rollcall.topic_domain,
  conversation_count int not null default 0,
  unit_count int not null default 0,
  message_count int not null default 0,
  token_count int not null default 0,
  first_engaged_at timestamptz,
  last_engaged_at timestamptz,
  streak_days int not null default 0,
  peak_hour int constraint topic_profiles_peak_hour_is_an_hour check (peak_hour between 0 and 23),
  proficiency rollcall.proficiency not null default 'unknown',
  proficiency_signals jsonb not null default '{}',
  importance real not null default 0.5 constraint topic_profiles_importance_range check (importance between 0 and 1),
  dirty boolean not null default false,
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  query tsquery generated always as (rollcall_internal.names_tsquery(label, aliases)) stored,
  constraint topic_profiles_slug unique (user_id, slug)
);
comment on table rollcall.topic_profiles is
  'What a user talks about: created by the roll-up, and editable by the user.';
comment on column rollcall.topic_profiles.query is 'Matches texts that name the topic.';
comment on column rollcall.topic_profiles.dirty is 'The next roll-up counts the topic again.';
create index topic_profiles_parent_id on rollcall.topic_profiles (parent_id) where parent_id is not null;
create index topic_profiles_engaged on rollcall.topic_profiles (user_id, last_engaged_at desc);
alter table rollcall.topic_profiles enable row level security;
create policy "own topics" on rollcall.topic_profiles for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (parent_id is null or parent_id in (select rollcall.my_topics())));
create policy "service_role has full access" on rollcall.topic_profiles
  for all to service_role using (true) with check (true);
revoke all on rollcall.topic_profiles from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, slug, label, aliases, parent_id, domain, proficiency, importance),
  update (slug, label, aliases, parent_id, domain, proficiency, importance) on rollcall.topic_profiles to authenticated;
grant all on rollcall.topic_profiles to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.topic_profiles', 'user_id', true, 45, null);

create trigger set_updated_at before update on rollcall.topic_profiles
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.entity_profiles (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  slug text not null constraint entity_profiles_slug_length check (char_length(slug) between 1 and 255),
  name text not null constraint entity_profiles_name_length check (char_length(name) between 1 and 255),
  entity_type rollcall.entity_type not null default 'concept',
  aliases text[] not null default '{}' constraint entity_profiles_aliases_count check (cardinality(aliases) <= 50),
  relationship text constraint entity_profiles_relationship_length check (char_length(relationship) <= 255),
  sentiment real not null default 0 constraint entity_profiles_sentiment_range check (sentiment between -1 and 1),
  facts jsonb not null default '[]' constraint entity_profiles_facts_is_a_list check (jsonb_typeof(facts) = 'array'),
  mention_count int not null default 0,
  conversation_count int not null default 0,
  first_mentioned_at timestamptz,
  last_mentioned_at timestamptz,
  importance real not null default 0.5 constraint entity_profiles_importance_range check (importance between 0 and 1),
  dirty boolean not null default false,
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  query tsquery generated always as (rollcall_internal.names_tsquery(name, aliases)) stored,
  constraint entity_profiles_slug unique (user_id, slug)
);
comment on table rollcall.entity_profiles is
  'People, projects, organisations, tools and concepts that a user talks about.';
comment on column rollcall.entity_profiles.facts is '[{"fact", "confidence" from 0 to 1, "source" the unit}]';
create index entity_profiles_mentioned on rollcall.entity_profiles (user_id, last_mentioned_at desc);
alter table rollcall.entity_profiles enable row level security;
create policy "own entities" on rollcall.entity_profiles for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.entity_profiles
  for all to service_role using (true) with check (true);
revoke all on rollcall.entity_profiles from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, slug, name, entity_type, aliases, relationship, sentiment, facts,
  importance),
  update (slug, name, entity_type, aliases, relationship, sentiment, facts,
    importance) on rollcall.entity_profiles to authenticated;
grant all on rollcall.entity_profiles to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.entity_profiles', 'user_id', true, 46, null);

create trigger set_updated_at before update on rollcall.entity_profiles
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.custom_instructions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  content text not null constraint custom_instructions_content_length check (char_length(content) between 1 and 10000),
  scope rollcall.instruction_scope not null default 'global',
  topic_id uuid references rollcall.topic_profiles (id) on delete cascade,
  priority int not null default 0,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint custom_instructions_topic_of_its_scope check ((scope = 'topic') = (topic_id is not null))
);
comment on table rollcall.custom_instructions is 'How a user wants to be answered, always or on one topic.';
create index custom_instructions_user_id on rollcall.custom_instructions (user_id, scope, priority desc)
  where is_active;
create index custom_instructions_topic_id on rollcall.custom_instructions (topic_id) where topic_id is not null;
alter table rollcall.custom_instructions enable row level security;
create policy "own instructions" on rollcall.custom_instructions for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (topic_id is null or topic_id in (select t.id from rollcall.topic_profiles t)));
create policy "service_role has full access" on rollcall.custom_instructions
  for all to service_role using (true) with check (true);
revoke all on rollcall.custom_instructions from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, content, scope, topic_id, priority, is_active),
  update (content, scope, topic_id, priority, is_active) on rollcall.custom_instructions to authenticated;
grant all on rollcall.custom_instructions to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.custom_instructions', 'user_id', true, 42, null);

create trigger set_updated_at before update on rollcall.custom_instructions
  for each row execute function rollcall_internal.set_updated_at();

-- Links ---------------------------------------------------------------------------------------------------------------

create table rollcall.topic_conversations (
  topic_id uuid not null references rollcall.topic_profiles (id) on delete cascade,
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  relevance real not null default 0.5 constraint topic_conversations_relevance_range check (relevance between 0 and 1),
  last_seen_at timestamptz not null default now(),
  constraint topic_conversations_pkey primary key (topic_id, conversation_id)
);
comment on table rollcall.topic_conversations is 'Which topics of a user a conversation is about, and how much.';
create index topic_conversations_conversation_id on rollcall.topic_conversations (conversation_id, user_id);
create index topic_conversations_user_id on rollcall.topic_conversations (user_id);
alter table rollcall.topic_conversations enable row level security;
create policy "own topics of conversations" on rollcall.topic_conversations for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and topic_id in (select t.id from rollcall.topic_profiles t)
    and conversation_id in (select rollcall.my_conversations()));
create policy "service_role has full access" on rollcall.topic_conversations
  for all to service_role using (true) with check (true);
revoke all on rollcall.topic_conversations from anon, authenticated, service_role;
grant select, delete, insert, update (relevance) on rollcall.topic_conversations to authenticated;
grant all on rollcall.topic_conversations to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.topic_conversations', 'user_id', true, null, 'deleted with the topic');

create table rollcall.entity_conversations (
  entity_id uuid not null references rollcall.entity_profiles (id) on delete cascade,
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  mentions int not null default 1,
  constraint entity_conversations_pkey primary key (entity_id, conversation_id)
);
comment on table rollcall.entity_conversations is 'Which entities of a user a conversation mentions.';
create index entity_conversations_conversation_id on rollcall.entity_conversations (conversation_id, user_id);
create index entity_conversations_user_id on rollcall.entity_conversations (user_id);
alter table rollcall.entity_conversations enable row level security;
create policy "own entities of conversations" on rollcall.entity_conversations for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and entity_id in (select e.id from rollcall.entity_profiles e)
    and conversation_id in (select rollcall.my_conversations()));
create policy "service_role has full access" on rollcall.entity_conversations
  for all to service_role using (true) with check (true);
revoke all on rollcall.entity_conversations from anon, authenticated, service_role;
grant select, delete, insert, update (mentions) on rollcall.entity_conversations to authenticated;
grant all on rollcall.entity_conversations to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.entity_conversations', 'user_id', true, null, 'deleted with the entity');

create table rollcall.topic_units (
  topic_id uuid not null references rollcall.topic_profiles (id) on delete cascade,
  unit_id uuid not null references rollcall.atomic_chat_units (id) on delete cascade,
  user_id uuid not null,
  relevance real not null default 0.5 constraint topic_units_relevance_range check (relevance between 0 and 1),
  constraint topic_units_pkey primary key (topic_id, unit_id)
);
comment on table rollcall.topic_units is 'Which units a topic consists of.';
create index topic_units_unit_id on rollcall.topic_units (unit_id);
create index topic_units_user_id on rollcall.topic_units (user_id);
alter table rollcall.topic_units enable row level security;
create policy "own units of topics" on rollcall.topic_units for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and topic_id in (select t.id from rollcall.topic_profiles t)
    and unit_id in (select u.id from rollcall.atomic_chat_units u));
create policy "service_role has full access" on rollcall.topic_units
  for all to service_role using (true) with check (true);
revoke all on rollcall.topic_units from anon, authenticated, service_role;
grant select, delete, insert, update (relevance) on rollcall.topic_units to authenticated;
grant all on rollcall.topic_units to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.topic_units', 'user_id', true, null, 'deleted with the topic or the unit');

create table rollcall.entity_units (
  entity_id uuid not null references rollcall.entity_profiles (id) on delete cascade,
  unit_id uuid not null references rollcall.atomic_chat_units (id) on delete cascade,
  user_id uuid not null,
  constraint entity_units_pkey primary key (entity_id, unit_id)
);
comment on table rollcall.entity_units is 'Which units mention an entity.';
create index entity_units_unit_id on rollcall.entity_units (unit_id);
create index entity_units_user_id on rollcall.entity_units (user_id);
alter table rollcall.entity_units enable row level security;
create policy "own units of entities" on rollcall.entity_units for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and entity_id in (select e.id from rollcall.entity_profiles e)
    and unit_id in (select u.id from rollcall.atomic_chat_units u));
create policy "service_role has full access" on rollcall.entity_units
  for all to service_role using (true) with check (true);
revoke all on rollcall.entity_units from anon, authenticated, service_role;
grant select, delete, insert on rollcall.entity_units to authenticated;
grant all on rollcall.entity_units to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.entity_units', 'user_id', true, null, 'deleted with the entity or the unit');

-- Bundles -------------------------------------------------------------------------------------------------------------

create table rollcall.context_bundles (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  bundle_type rollcall.bundle_type not null,
  topic_id uuid references rollcall.topic_profiles (id) on delete cascade,
  entity_id uuid references rollcall.entity_profiles (id) on delete cascade,
  conversation_id uuid references rollcall.conversations (id) on delete cascade,
  persona_id uuid references rollcall.personas (id) on delete cascade,
  content text not null,
  token_count int not null,
  memory_ids uuid[] not null default '{}',
  unit_ids uuid[] not null default '{}',
  instruction_ids uuid[] not null default '{}',
  conversation_ids uuid[] not null default '{}',
  topic_ids uuid[] not null default '{}',
  -- As of user_presence.
  version bigint not null default (extract(epoch from clock_timestamp()) * 1000000)::bigint,
  dirty boolean not null default false,
  priority real not null default 50,
  compiled_at timestamptz not null,
  compiled_seeing pg_snapshot not null,
  access_version bigint,
  expires_at timestamptz not null,
  last_used_at timestamptz,
  use_count bigint not null default 0,
  hit_count bigint not null default 0,
  miss_count bigint not null default 0,
  constraint context_bundles_subject unique nulls not distinct
    (user_id, bundle_type, topic_id, entity_id, conversation_id, persona_id),
  constraint context_bundles_is_about_one_thing check (
    (bundle_type = 'topic') = (topic_id is not null)
    and (bundle_type = 'entity') = (entity_id is not null)
    and (bundle_type = 'conversation') = (conversation_id is not null))
) with (fillfactor = 80);
comment on table rollcall.context_bundles is
  'Compiled pieces of prompts. A cache: every row can be compiled again from its sources, and is served only while it '
  'is not dirty, not expired, and no source change was committed that its compilation did not see.';
comment on column rollcall.context_bundles.memory_ids is 'With the other lists of ids: the sources of the bundle.';
comment on column rollcall.context_bundles.compiled_seeing is
  'The snapshot in which its sources were read: changes that it does not see are not in the bundle.';
comment on column rollcall.context_bundles.access_version is
  'The version of policies and grants under which its sources were read: it is served only under that version.';
comment on column rollcall.context_bundles.miss_count is 'How often it was marked as dirty, or needed while not fresh.';
create index context_bundles_topic_id on rollcall.context_bundles (topic_id) where topic_id is not null;
create index context_bundles_entity_id on rollcall.context_bundles (entity_id) where entity_id is not null;
create index context_bundles_conversation_id on rollcall.context_bundles (conversation_id)
  where conversation_id is not null;
create index context_bundles_persona_id on rollcall.context_bundles (persona_id) where persona_id is not null;
alter table rollcall.context_bundles enable row level security;
-- Only the server writes bundles and actions; users may delete bundles.
create policy "own bundles" on rollcall.context_bundles for select to authenticated
  using (user_id = (select auth.uid()));
create policy "users delete their bundles" on rollcall.context_bundles for delete to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.context_bundles
  for all to service_role using (true) with check (true);
revoke all on rollcall.context_bundles from anon, authenticated, service_role;
grant select, delete on rollcall.context_bundles to authenticated;
grant all on rollcall.context_bundles to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.context_bundles', 'user_id', true, 90, null);

create table rollcall.system_actions (
  -- Random: a sequence would count the background work of all users.
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  kind text not null constraint system_actions_kind_is_known check (kind in ('compile', 'warm_up')),
  bundle_id uuid references rollcall.context_bundles (id) on delete cascade,
  trigger text not null,
  status rollcall.action_status not null default 'pending',
  metadata jsonb not null default '{}',
  attempts int not null default 0,
  error text,
  created_at timestamptz not null default now(),
  run_after timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint system_actions_compile_names_a_bundle check ((kind = 'compile') = (bundle_id is not null))
) with (fillfactor = 80);
comment on table rollcall.system_actions is
  'Background work that servers share with SKIP LOCKED. failed: given up after its last attempt.';
-- One entry per bundle, however often it is marked as dirty.
create unique index system_actions_one_pending on rollcall.system_actions (bundle_id) where status = 'pending'
  and bundle_id is not null;
create index system_actions_waiting on rollcall.system_actions (run_after) where status = 'pending';
create index system_actions_under_way on rollcall.system_actions (started_at) where status = 'processing';
create index system_actions_user_id on rollcall.system_actions (user_id, status);
create index system_actions_bundle_id on rollcall.system_actions (bundle_id) where bundle_id is not null;
alter table rollcall.system_actions enable row level security;
create policy "own actions" on rollcall.system_actions for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.system_actions
  for all to service_role using (true) with check (true);
revoke all on rollcall.system_actions from anon, authenticated, service_role;
grant select on rollcall.system_actions to authenticated;
grant all on rollcall.system_actions to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.system_actions', 'user_id', true, 80, null);

-- Invoker: shows what the policies on context_bundles show.
create view rollcall.dirty_bundles with (security_invoker = true) as
  select
    b.user_id, b.id, b.bundle_type, b.topic_id, b.entity_id, b.conversation_id, b.persona_id, b.version,
    case when b.dirty then 'dirty' else 'expired' end as state,
    b.priority, b.compiled_at, b.expires_at, b.use_count, b.last_used_at
  from rollcall.context_bundles b
  where b.dirty or b.expires_at <= now();
comment on view rollcall.dirty_bundles is 'Bundles that must be compiled again before they are served.';
revoke all on rollcall.dirty_bundles from anon, authenticated, service_role;
grant select on rollcall.dirty_bundles to authenticated, service_role;

-- Invoker: shows what the policies on system_actions show.
create view rollcall.invalidation_queue with (security_invoker = true) as
  select
    a.id, a.user_id, a.kind, a.bundle_id, a.trigger, a.status, a.attempts, a.error, a.created_at, a.run_after,
    a.started_at, now() - a.created_at as age
  from rollcall.system_actions a
  where a.finished_at is null;
comment on view rollcall.invalidation_queue is 'Unfinished background work of the context engine, with its age.';
revoke all on rollcall.invalidation_queue from anon, authenticated, service_role;
grant select on rollcall.invalidation_queue to authenticated, service_role;

-- schemas/75_context_freshness.sql -----------------------------------------------------------------------------------

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

-- schemas/80_context_assembly.sql ------------------------------------------------------------------------------------

-- Reading for the context engine: the sources of a bundle, what a message is about, and everything that one prompt
-- needs, in one call each. All of it runs as the caller, so row-level security decides about every row in a prompt.
-- What every prompt calls is in PL/pgSQL: the body of an SQL function is planned again in every statement that calls
-- it.

-- Only bitmap scans: the planner expects a limit to be reached early, which rows with rare combinations of frequent
-- words do not. One call for all queries: the settings of a function cost as much as a search for a rare word.
-- Definer: see match_words; called by it only.
create function rollcall_internal.my_matches(p_kind text, p_user uuid, p_queries tsquery[], p_limit int)
  returns table (n bigint, ids uuid[])
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_indexscan = off
  rows 16
as $$
begin
  if p_kind = 'unit' then
    return query
      select q.n, case when q.query is not null then array(
        select u.id from rollcall.atomic_chat_units u
        where u.user_id = p_user and u.state = 'active' and u.search @@ q.query limit p_limit) end
      from unnest(p_queries) with ordinality q (query, n);
  else
    return query
      select q.n, case when q.query is not null then array(
        select m.id from rollcall.memories m
        where m.user_id = p_user and m.is_active and m.search @@ q.query limit p_limit) end
      from unnest(p_queries) with ordinality q (query, n);
  end if;
end
$$;
comment on function rollcall_internal.my_matches is
  'Ids of at most p_limit rows, in no order, that match a query, for each query; null for a query that is null.';

-- Definer: see match_words; called by it only.
create function rollcall_internal.my_newest_matches(p_kind text, p_user uuid, p_queries tsquery[], p_among int,
  p_limit int) returns uuid[]
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_any constant tsquery := (select string_agg(q::text, ' | ')::tsquery from unnest(p_queries) q);
begin
  if v_any is null then
    return '{}';
  elsif p_kind = 'unit' then
    return array(
      select n.id
      from (
        select u.id, u.search, u.state, u.created_at from rollcall.atomic_chat_units u where u.user_id = p_user
        order by u.created_at desc limit p_among
      ) n
      where n.state = 'active' and n.search @@ v_any
      order by (select count(*) from unnest(p_queries) q where n.search @@ q) desc, n.created_at desc limit p_limit);
  end if;
  return array(
    select n.id
    from (
      select m.id, m.search, m.is_active, m.created_at from rollcall.memories m where m.user_id = p_user
      order by m.created_at desc limit p_among
    ) n
    where n.is_active and n.search @@ v_any
    order by (select count(*) from unnest(p_queries) q where n.search @@ q) desc, n.created_at desc limit p_limit);
end
$$;
comment on function rollcall_internal.my_newest_matches is
  'Ids of p_limit rows among the newest p_among rows of the user: those that match most queries, newest first.';

-- Definer: see match_words; called by it only.
create function rollcall_internal.my_shares(p_kind text, p_user uuid, p_queries tsquery[]) returns float8[]
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_oldest timestamptz;
  v_newest timestamptz;
begin
  if p_kind = 'unit' then
    v_oldest := (select u.created_at from rollcall.atomic_chat_units u where u.user_id = p_user
      order by u.created_at limit 1);
    v_newest := (select u.created_at from rollcall.atomic_chat_units u where u.user_id = p_user
      order by u.created_at desc limit 1);
  else
    v_oldest := (select m.created_at from rollcall.memories m where m.user_id = p_user order by m.created_at limit 1);
    v_newest := (select m.created_at from rollcall.memories m where m.user_id = p_user
      order by m.created_at desc limit 1);
  end if;
  return (
    with sample as materialized (
      select distinct on (x.id) x.search
      from generate_series(0, 39) p (n)
      cross join lateral (
        (select u.id, u.search from rollcall.atomic_chat_units u
          where p_kind = 'unit' and u.user_id = p_user and u.created_at >= v_oldest + (v_newest - v_oldest) * p.n / 40
          order by u.created_at limit 5)
        union all
        (select m.id, m.search from rollcall.memories m
          where p_kind = 'memory' and m.user_id = p_user and m.created_at >= v_oldest + (v_newest - v_oldest) * p.n / 40
          order by m.created_at limit 5)
      ) x
    )
    select array_agg(c.share order by c.n)
    from (
      select q.n, avg((s.search @@ q.query)::int)::float8 as share
      from unnest(p_queries) with ordinality q (query, n) cross join sample s group by q.n
    ) c
    where (select count(*) from sample) >= 150
  );
end
$$;
comment on function rollcall_internal.my_shares is
  'Shares of the users rows that match the queries, from 200 rows spread over time; null where most are of one time.';

-- Of the languages that PostgreSQL has stop words for, the one with most stop words in the text; English on a tie.
-- Invoker: computes from its argument.
create function rollcall_internal.without_stop_words(p_text text) returns text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_words constant text[] := regexp_split_to_array(p_text, '\s+');
  -- English is the first, Turkish the last.
  v_dictionaries constant regdictionary[] := '{english_stem,danish_stem,dutch_stem,finnish_stem,french_stem,
    german_stem,hungarian_stem,italian_stem,norwegian_stem,portuguese_stem,russian_stem,spanish_stem,swedish_stem,
    turkish_stem}';
begin
  return (
    with words as materialized (
      select w.n, lower(btrim(w.word, '.,;:!?¿¡()"')) as word
      from unnest(v_words[1:200]) with ordinality w (word, n)
    ),
    stops as materialized (
      select d.n as language, w.n
      from words w
      cross join unnest(v_dictionaries) with ordinality d (dictionary, n)
      where ts_lexize(d.dictionary, w.word) = '{}'
        -- Not in PostgreSQL's list.
        or d.n = 14 and w.word in ('bir', 'kadar', 'var', 'yok', 'olan', 'olarak', 'değil', 'zaman', 'kaç', 'hangi')
    ),
    best as (
      select s.language from stops s group by s.language order by count(*) desc, s.language limit 1
    )
    select coalesce(string_agg(w.word, ' ' order by w.n), '')
    from unnest(v_words) with ordinality w (word, n)
    where not exists (select from stops s join best b using (language) where s.n = w.n and b.language > 1)
  );
end
$$;
comment on function rollcall_internal.without_stop_words is
  'A text without the stop words of its language; English ones are left to the parser.';

-- Only bitmap scans: see my_matches.
-- Definer: see match_words; called by my_gram_matches only.
create function rollcall_internal.my_rows_with_grams(p_kind text, p_user uuid, p_grams text[], p_limit int)
  returns table (ids uuid[])
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_indexscan = off
  rows 40
as $$
begin
  if p_kind = 'unit' then
    return query
      select array(select u.id from rollcall.atomic_chat_units u
        where u.user_id = p_user and u.state = 'active' and u.grams @@ quote_literal(g)::tsquery limit p_limit)
      from unnest(p_grams) g;
  else
    return query
      select array(select m.id from rollcall.memories m
        where m.user_id = p_user and m.is_active and m.grams @@ quote_literal(g)::tsquery limit p_limit)
      from unnest(p_grams) g;
  end if;
end
$$;
comment on function rollcall_internal.my_rows_with_grams is
  'Ids of at most p_limit rows that have a part of a word, for each part.';

-- Rare words weigh more; of equally good rows the newest are kept. The score is the share of the weight of the text's
-- five heaviest words. Of a word in more than 500 rows not all rows are read: those that also have another word of
-- the text are found through the index, the others are looked for in the user's newest 1,500 rows; if there are none,
-- any are taken. A row with frequent words only is not looked for where enough rows have rarer words that weigh more.
-- p_many: more than 20,000 rows. Words that are in at least 4 % of these are frequent without being looked up: an index
-- scan returns all rows with a word before the first is read. Their combinations are looked up if, as common as the
-- words suggest, they could be among the best rows; of those that 200 rows or more should have, the newest are enough.
-- Definer: under a policy PostgreSQL cannot use an index for @@; returns ids of rows of auth.uid() only.
-- Over 60 lines: frequent words need steps of their own.
create function rollcall_internal.my_word_matches(p_kind text, p_text text, p_many boolean, p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 30
as $$
declare
  v_me constant uuid := auth.uid();
  v_words tsquery[];
  v_shares float8[];
  v_frequent tsquery[];
  v_frequent_shares float8[];
  v_ids uuid[];
  v_weights float8[];
  v_frequent_weight constant float8 := ln(1 + 1000::float8 / 1001);
  -- The most that frequent words can add to a row, unless they are rare together.
  v_most float8;
  v_floor float8;
  v_newest uuid[] := '{}';
  v_others uuid[];
  v_whole float8;
begin
  v_words := array(
    select plainto_tsquery('pg_catalog.simple', l.lexeme)
    from unnest(to_tsvector('pg_catalog.english', p_text)) l
    order by length(l.lexeme) desc, l.lexeme limit 16);
  if p_many then
    v_shares := rollcall_internal.my_shares(p_kind, v_me, v_words);
  end if;
  with found as materialized (
    select w.query, coalesce(w.share, 0) as share, w.n, m.ids,
      case when m.ids is null or cardinality(m.ids) > 500 then v_frequent_weight
        when m.ids <> '{}' then ln(1 + 1000::float8 / cardinality(m.ids)) end as weight
    from unnest(v_words, v_shares) with ordinality w (query, share, n)
    join rollcall_internal.my_matches(p_kind, v_me, array(
      select case when w.share >= 0.04 then null else w.query end
      from unnest(v_words, v_shares) with ordinality w (query, share, n) order by w.n), 501) m using (n)
  ),
  rows as (
    select i.id, sum(f.weight) as weight from found f cross join lateral unnest(f.ids) i (id)
    where cardinality(f.ids) <= 500 group by i.id
    order by weight desc limit greatest(p_limit, 400)
  )
  select
    (select array_agg(f.query order by f.share, f.n) from found f where f.ids is null or cardinality(f.ids) > 500),
    (select array_agg(f.share order by f.share, f.n) from found f where f.ids is null or cardinality(f.ids) > 500),
    (select array_agg(distinct i.id) from found f cross join lateral unnest(f.ids[1:40]) i (id)
      where cardinality(f.ids) > 500),
    (select coalesce(sum(h.weight), 0) from (select f.weight from found f order by 1 desc nulls last limit 5) h),
    (select array_agg(r.id order by r.weight desc) from rows r),
    (select array_agg(r.weight order by r.weight desc) from rows r)
    into v_frequent, v_frequent_shares, v_others, v_whole, v_ids, v_weights;
  v_most := v_frequent_weight * coalesce(cardinality(v_frequent), 0);
  v_floor := coalesce(v_weights[p_limit], 0);
  if v_floor < v_most then
    v_newest := rollcall_internal.my_newest_matches(p_kind, v_me, v_frequent, 1500, 200);
    if v_newest = '{}' and v_others is null and v_ids is null then
      v_others := array(
        select i.id from rollcall_internal.my_matches(p_kind, v_me, v_frequent, 40) m, unnest(m.ids) i (id));
    end if;
    if cardinality(v_newest) < p_limit then
      v_newest := v_newest || v_others;
    end if;
  end if;
  v_whole := greatest(v_whole, ln(1 + 1000::float8 / 5));

  return query
    with rare as (
      select r.id, r.weight from unnest(v_ids, v_weights) r (id, weight) where r.weight >= v_floor - v_most
    ),
    few as (
      select * from unnest(v_frequent, v_frequent_shares) with ordinality f (query, share, n) where f.n <= 4
    ),
    -- With the number of rows that have them, at least, if the words are independent.
    combined as (
      select o.query && t.query as query, 20000 * o.share * t.share as rows from few o join few t on t.n > o.n
      union
      select string_agg(f.query::text, ' & ')::tsquery, 20000 * exp(sum(ln(greatest(f.share, 1e-6))))
      from unnest(v_frequent, v_frequent_shares) f (query, share) having count(*) > 2
    ),
    -- Frequent words together may be rare.
    together as (
      select i.id, max(ln(1 + 1000::float8 / cardinality(f.ids))) as weight
      from rollcall_internal.my_matches(p_kind, v_me, array(
        select c.query from combined c where c.rows < 200 and ln(1 + 1000 / greatest(c.rows, 1)) > v_floor), 200) f
      cross join lateral unnest(f.ids) i (id)
      group by i.id
    ),
    candidates as (
      select r.id from rare r
      union
      select t.id from together t
      union
      select i.id from unnest(v_newest) i (id)
    ),
    scored as (
      select c.id, x.created_at, coalesce(r.weight, 0) + greatest(t.weight, v_frequent_weight
        * (select count(*) from unnest(v_frequent) f where x.search @@ f)) as weight
      from candidates c
      left join rare r on r.id = c.id
      left join together t on t.id = c.id
      cross join lateral (
        select u.created_at, u.search from rollcall.atomic_chat_units u where p_kind = 'unit' and u.id = c.id
        union all
        select m.created_at, m.search from rollcall.memories m where p_kind = 'memory' and m.id = c.id
      ) x
    )
    select s.id, least(1, s.weight / v_whole)::real
    from scored s
    order by s.weight desc, s.created_at desc, s.id
    limit p_limit;
end
$$;
comment on function rollcall_internal.my_word_matches is
  'The callers units or memories that have words of a text, best first, with a score from 0 to 1.';

-- Rare parts weigh more. The score is the share of the weight of those parts of the text that occur at all. At most 40
-- parts, those of the longest words. A part in more than 100 to 300 rows finds none: of few parts more rows can be
-- compared.
-- Definer: see match_words; called by it only.
create function rollcall_internal.my_gram_matches(p_kind text, p_text text, p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 30
as $$
declare
  v_me constant uuid := auth.uid();
  v_grams constant text[] := array(
    select g.lexeme
    from regexp_split_to_table(p_text, '\s+') w (word)
    cross join lateral unnest(rollcall_internal.search_grams(w.word)) g
    where w.word <> ''
    group by g.lexeme
    order by max(length(w.word)) desc, g.lexeme limit 40);
  v_most constant int := greatest(100, least(300, 4000 / greatest(cardinality(v_grams), 1)));
begin
  return query
    with found as materialized (
      select m.ids from rollcall_internal.my_rows_with_grams(p_kind, v_me, v_grams, v_most + 1) m
    ),
    weighed as materialized (
      select ln(1 + 1000::float8 / case when cardinality(f.ids) > v_most then 1001 else cardinality(f.ids) end)
          as weight,
        f.ids
      from found f where f.ids <> '{}'
    ),
    scored as (
      select i.id, sum(w.weight) / (select sum(a.weight) from weighed a) as score
      from weighed w cross join lateral unnest(w.ids) i (id) where cardinality(w.ids) <= v_most group by i.id
    )
    select s.id, s.score::real from scored s order by s.score desc, s.id limit p_limit;
end
$$;
comment on function rollcall_internal.my_gram_matches is
  'The callers units or memories that have parts of the words of a text, best first, with a score from 0 to 1.';

-- By words and by parts of words: words alone miss inflections, compounds, and scripts without spaces. For users with
-- more than 20,000 rows parts take too long: only those of scripts without spaces are searched, which are rarer.
-- Definer: under a policy PostgreSQL cannot use an index for @@; returns ids of rows of auth.uid() only.
create function rollcall.match_words(p_kind text, p_text text, p_limit int) returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 30
as $$
declare
  v_me constant uuid := auth.uid();
  v_many constant boolean := case p_kind
    when 'unit' then exists (select from rollcall.atomic_chat_units u where u.user_id = v_me offset 20000 limit 1)
    else exists (select from rollcall.memories m where m.user_id = v_me offset 20000 limit 1) end;
  v_words constant text := rollcall_internal.without_stop_words(left(p_text, 8000));
  v_parts text := left(coalesce(nullif(v_words, ''), p_text), 2000);
begin
  if v_many then
    v_parts := array_to_string(array(
      select r[1] from regexp_matches(left(p_text, 2000),
        '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff]+)', 'g') r), ' ');
    if v_parts = '' then
      return query select w.id, w.score from rollcall_internal.my_word_matches(p_kind, v_words, true, p_limit) w;
      return;
    end if;
  end if;
  return query
    select coalesce(w.id, g.id), greatest(w.score, g.score)
    from rollcall_internal.my_word_matches(p_kind, v_words, v_many, 200) with ordinality w (id, score, n)
    full join rollcall_internal.my_gram_matches(p_kind, v_parts, 200) g on g.id = w.id
    order by coalesce(w.score, 0) + coalesce(g.score, 0) desc, w.n, 1
    limit p_limit;
end
$$;
comment on function rollcall.match_words is
  'The callers units or memories that a text is about by its words, best first, with a score from 0 to 1.';
grant execute on function rollcall.match_words to authenticated, service_role;

-- Embeddings below the threshold are ignored.
-- Invoker: ids of the caller's own rows, from match_embeddings.
create function rollcall.merge_embeddings(p_kind text, p_ids uuid[], p_scores real[], p_vector text, p_threshold real,
  p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp rows 40
as $$
begin
  return query
    with words as (
      select w.id, w.score, w.n from unnest(p_ids, p_scores) with ordinality w (id, score, n)
    ),
    meaning as (
      select m.id, m.score, row_number() over (order by m.score desc, m.id) as n
      from rollcall.match_embeddings(p_kind, p_vector, p_limit) m where m.score >= p_threshold
    )
    select coalesce(w.id, m.id), greatest(w.score, m.score)
    from words w full join meaning m on m.id = w.id
    -- Reciprocal rank fusion; 60 limits the weight of the first ranks.
    order by coalesce(1.0 / (60 + w.n), 0) + coalesce(1.0 / (60 + m.n), 0) desc, 1
    limit p_limit;
end
$$;
comment on function rollcall.merge_embeddings is
  'Merges matches by words and by embedding by rank; the score is the better of the two.';
grant execute on function rollcall.merge_embeddings to authenticated, service_role;

-- Everything selected here must be covered by affected_bundles.
-- Invoker: row-level security decides. Without a search_path of its own, because it evaluates users' policies.
-- Over 60 lines: one statement per bundle type.
create function rollcall.bundle_sources(
  p_type rollcall.bundle_type, p_topic uuid default null, p_entity uuid default null, p_conversation uuid default null
) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_sources pg_catalog.jsonb;
begin
  case p_type
    when 'identity_core' then
      select pg_catalog.jsonb_build_object('memories', coalesce(pg_catalog.jsonb_agg(
          pg_catalog.jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category)
            order by m.is_pinned desc,
            m.importance desc, m.created_at, m.id), '[]'))
        into v_sources
      from (
        select * from rollcall.memories m
        where m.user_id = v_me and m.is_active and (m.is_pinned or m.category in ('biography', 'identity', 'role')
          and m.importance >= 0.8::real)
        order by m.is_pinned desc, m.importance desc, m.created_at, m.id limit 15
      ) m;

    when 'global_prefs' then
      select pg_catalog.jsonb_build_object(
        'instructions', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', i.id, 'content', i.content)
            order by i.priority desc, i.created_at,
            i.id)
          from (
            select * from rollcall.custom_instructions i
            where i.user_id = v_me and i.is_active and i.scope = 'global'
            order by i.priority desc, i.created_at, i.id limit 10
          ) i), '[]'),
        'memories', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', m.id, 'content', m.content, 'category',
            m.category)
            order by m.importance desc, m.created_at, m.id)
          from (
            select * from rollcall.memories m
            where m.user_id = v_me and m.is_active and m.category = 'preference' and m.importance >= 0.6::real
            order by m.importance desc, m.created_at, m.id limit 10
          ) m), '[]'))
        into v_sources;

    when 'topic' then
      select pg_catalog.jsonb_build_object(
        'topic', pg_catalog.jsonb_build_object('label', t.label, 'aliases', t.aliases, 'domain', t.domain,
          'proficiency', t.proficiency, 'units', t.unit_count, 'conversations', t.conversation_count,
          'messages', t.message_count, 'last_engaged', t.last_engaged_at::pg_catalog.date, 'streak_days', t.streak_days,
          'importance', t.importance),
        'instructions', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', i.id, 'content', i.content)
            order by i.priority desc, i.created_at,
            i.id)
          from rollcall.custom_instructions i
          where i.topic_id = t.id and i.user_id = v_me and i.is_active), '[]'),
        'memories', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', m.id, 'content', m.content, 'category',
            m.category)
            order by m.importance desc, m.created_at, m.id)
          from (
            select * from rollcall.memories m
            where m.user_id = v_me and m.is_active and m.search @@ t.query
            order by m.importance desc, m.created_at, m.id limit 5
          ) m), '[]'),
        'conversations', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', c.id, 'title', c.title)
            order by c.relevance desc, c.id)
          from (
            select c.id, c.title, l.relevance
            from rollcall.topic_conversations l join rollcall.conversations c on c.id = l.conversation_id
            where l.topic_id = t.id and c.title is not null
            order by l.relevance desc, c.id limit 5
          ) c), '[]'),
        'units', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', u.id, 'content', u.content)
            order by u.worth desc,
            u.created_at desc, u.id)
          from (
            select u.id, u.content, u.created_at, l.relevance * u.quality as worth
            from rollcall.topic_units l join rollcall.atomic_chat_units u on u.id = l.unit_id
            where l.topic_id = t.id and u.state = 'active'
            order by worth desc, u.created_at desc, u.id limit 10
          ) u), '[]'))
        into v_sources
      from rollcall.topic_profiles t where t.id = p_topic and t.user_id = v_me;

    when 'entity' then
      select pg_catalog.jsonb_build_object(
        'entity', pg_catalog.jsonb_build_object('name', e.name, 'type', e.entity_type, 'aliases', e.aliases,
          'relationship', e.relationship, 'sentiment', e.sentiment, 'facts', e.facts, 'mentions', e.mention_count,
          'conversations', e.conversation_count, 'last_mentioned', e.last_mentioned_at::pg_catalog.date, 'importance',
            e.importance),
        'units', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', u.id, 'content', u.content)
            order by u.quality desc,
            u.created_at desc, u.id)
          from (
            select u.id, u.content, u.quality, u.created_at
            from rollcall.entity_units l join rollcall.atomic_chat_units u on u.id = l.unit_id
            where l.entity_id = e.id and u.state = 'active'
            order by u.quality desc, u.created_at desc, u.id limit 8
          ) u), '[]'))
        into v_sources
      from rollcall.entity_profiles e where e.id = p_entity and e.user_id = v_me;

    when 'conversation' then
      select pg_catalog.jsonb_build_object(
        'conversation', pg_catalog.jsonb_build_object('id', c.id, 'title', c.title, 'started',
          c.created_at::pg_catalog.date),
        'count', (select count(*) from rollcall.messages m where m.conversation_id = c.id
          and m.state in ('complete', 'partial')),
        'topics', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', t.id, 'label', t.label)
            order by t.relevance desc, t.id)
          from (
            select t.id, t.label, l.relevance
            from rollcall.topic_conversations l join rollcall.topic_profiles t on t.id = l.topic_id
            where l.conversation_id = c.id and l.user_id = v_me
            order by l.relevance desc, t.id limit 5
          ) t), '[]'),
        -- A long conversation is represented by its beginning and its end.
        'messages', coalesce((
          select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('role', m.role, 'content', left(m.content, 4000),
            'mine',
            m.user_id = v_me)
            order by m.message_index)
          from (
            (select * from rollcall.messages m
              where m.conversation_id = c.id and m.state in ('complete', 'partial')
              order by m.message_index limit 4)
            union
            (select * from rollcall.messages m
              where m.conversation_id = c.id and m.state in ('complete', 'partial')
              order by m.message_index desc limit 150)
          ) m), '[]'))
        into v_sources
      from rollcall.conversations c where c.id = p_conversation;
    else
      v_sources := null;
  end case;
  return v_sources;
end
$$;
comment on function rollcall.bundle_sources is
  'The sources that a bundle is compiled from, as the caller may see them; null where there are none.';
grant execute on function rollcall.bundle_sources to authenticated, service_role;

-- p_wanted: [{"type", "ref" of topic, entity or conversation}]; p_force treats all as stale. In the order of the list.
-- One statement has one snapshot, so a bundle called fresh is as new as the rest of the result.
-- Invoker: see bundle_sources.
-- Over 60 lines: one statement.
create function rollcall.wanted_bundles(p_wanted jsonb, p_force boolean default false) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
begin
  return (
    with wanted as materialized (
      select (a.w ->> 'type')::rollcall.bundle_type as type, (a.w ->> 'ref')::pg_catalog.uuid as ref, a.n
      from jsonb_array_elements(p_wanted) with ordinality a (w, n)
    ),
    found as materialized (
      select w.type, w.ref, w.n, b.id, b.content, b.token_count, b.version, b.unit_ids, b.memory_ids, b.compiled_at,
        b.dirty, b.expires_at
      from wanted w
      left join lateral (
        select * from rollcall.context_bundles b
        where w.type = 'topic' and b.topic_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from rollcall.context_bundles b
        where w.type = 'entity' and b.entity_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from rollcall.context_bundles b
        where w.type = 'conversation' and b.conversation_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from rollcall.context_bundles b
        where w.type not in ('topic', 'entity', 'conversation') and b.user_id = v_me and b.bundle_type = w.type
          and b.persona_id is null and b.topic_id is null and b.entity_id is null and b.conversation_id is null
        offset 0
      ) b on true
    ),
    fresh as materialized (
      select f.id from rollcall.my_fresh_bundles(array(select o.id from found o where not o.dirty)) f (id)
      where not p_force
    ),
    judged as (
      select f.*, case
        when f.id is null then 'missing'
        when p_force then 'forced'
        when f.dirty then 'dirty'
        when f.expires_at <= clock_timestamp() then 'expired'
        when not exists (select from fresh r where r.id = f.id) then 'dirty'
        -- Under the policies of this moment, which may depend on more than membership.
        when f.type = 'conversation' and (select c.id from rollcall.conversations c where c.id = f.ref limit 1) is null
          then 'dirty'
        else 'fresh' end as reason
      from found f offset 0
    )
    select coalesce(pg_catalog.jsonb_agg(
      pg_catalog.jsonb_build_object('type', j.type, 'ref', j.ref, 'reason', j.reason, 'id', j.id)
      || case when j.reason = 'fresh' then pg_catalog.jsonb_build_object('content', j.content, 'tokens', j.token_count,
          'version', j.version, 'unit_ids', j.unit_ids, 'memory_ids', j.memory_ids, 'compiled_at', j.compiled_at)
        else pg_catalog.jsonb_build_object('sources', case j.type
          when 'topic' then rollcall.bundle_sources('topic', p_topic => j.ref)
          when 'entity' then rollcall.bundle_sources('entity', p_entity => j.ref)
          when 'conversation' then rollcall.bundle_sources('conversation', p_conversation => j.ref)
          else rollcall.bundle_sources(j.type) end)
        end
      order by j.n), '[]')
    from judged j
  );
end
$$;
comment on function rollcall.wanted_bundles is
  'The callers bundles for some subjects: the content of fresh ones, the sources of the others.';
grant execute on function rollcall.wanted_bundles to authenticated, service_role;

-- Topics and entities of the conversation, those that the message names (also misspelt), and those of matching units.
-- Each matched unit is looked up by key (`offset 0`): the plan is generic and does not know how few there are.
-- Invoker: see bundle_sources.
-- Over 60 lines: one statement.
create function rollcall.detect(p_conversation uuid, p_message text, p_units uuid[], p_scores real[])
  returns table (kind text, id uuid, name text, score real, reason text)
  language plpgsql stable security invoker rows 10
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_lexemes constant pg_catalog.tsvector := to_tsvector('pg_catalog.english', left(p_message, 20000));
  v_misspellings pg_catalog.text[];
  v_prefixes pg_catalog.text[];
begin
  -- Any longer word may be a misspelt name with the same first letters. Names are compared with these first, one per
  -- row.
  select pg_catalog.array_agg(w.word), pg_catalog.array_agg(left(w.word, 2)) into v_misspellings, v_prefixes from (
    select distinct lower(m[1]) as word from regexp_matches(left(p_message, 2000), '([[:alpha:]][[:alnum:]-]{4,30})',
      'g') m
    limit 40
  ) w;
  return query
    with matched as (
      select * from unnest(p_units, p_scores) u (unit_id, score)
    ),
    whole as (select nullif(sum(m.score), 0) as score from matched m),
    hits as (
      select 'topic' as kind, l.topic_id as id, 0.5::real + l.relevance / 2 as score, 'conversation' as reason
      from rollcall.topic_conversations l where l.conversation_id = p_conversation and l.user_id = v_me
      union all
      select 'topic', t.id, 1, 'named' from rollcall.topic_profiles t where t.user_id = v_me and v_lexemes @@ t.query
      union all
      select 'topic', l.topic_id, (sum(m.score) / max(w.score))::real, 'meaning'
      from matched m cross join whole w
      cross join lateral (select l.topic_id from rollcall.topic_units l where l.unit_id = m.unit_id
        and l.user_id = v_me offset 0) l
      group by l.topic_id having sum(m.score) / max(w.score) >= 0.35
      union all
      select 'entity', l.entity_id, least(0.9, 0.4 + 0.1 * l.mentions)::real, 'conversation'
      from rollcall.entity_conversations l where l.conversation_id = p_conversation and l.user_id = v_me
      union all
      select 'entity', e.id, 1, 'named' from rollcall.entity_profiles e where e.user_id = v_me and v_lexemes @@ e.query
      union all
      select 'entity', l.entity_id, (sum(m.score) / max(w.score))::real, 'meaning'
      from matched m cross join whole w
      cross join lateral (select l.entity_id from rollcall.entity_units l where l.unit_id = m.unit_id
        and l.user_id = v_me offset 0) l
      group by l.entity_id having sum(m.score) / max(w.score) >= 0.40
      union all
      select s.kind, s.id, 0.8, 'misspelt'
      from (
        select 'topic' as kind, t.id, lower(t.label) as name from rollcall.topic_profiles t
        where t.user_id = v_me and left(lower(t.label), 2) = any (v_prefixes)
        union all
        select 'topic', t.id, lower(n) from rollcall.topic_profiles t, pg_catalog.unnest(t.aliases) n
        where t.user_id = v_me and t.aliases <> '{}' and left(lower(n), 2) = any (v_prefixes)
        union all
        select 'entity', e.id, lower(e.name) from rollcall.entity_profiles e
        where e.user_id = v_me and left(lower(e.name), 2) = any (v_prefixes)
        union all
        select 'entity', e.id, lower(n) from rollcall.entity_profiles e, pg_catalog.unnest(e.aliases) n
        where e.user_id = v_me and e.aliases <> '{}' and left(lower(n), 2) = any (v_prefixes)
      ) s
      join pg_catalog.unnest(v_misspellings) slip on left(slip, 2) = left(s.name, 2) and slip <> s.name
        and length(slip) between length(s.name) - 1 and length(s.name) + 1
      where length(s.name) >= 5 and rollcall.similarity(slip, s.name) >= 0.5
    ),
    best as (
      select distinct on (h.kind, h.id) h.kind, h.id, h.score::real, h.reason
      from hits h order by h.kind, h.id, h.score desc
    )
    (select b.kind, b.id, t.label, b.score, b.reason
      from best b join rollcall.topic_profiles t on b.kind = 'topic' and t.id = b.id
      order by b.score desc, t.importance desc, t.id limit 4)
    union all
    (select b.kind, b.id, e.name, b.score, b.reason
      from best b join rollcall.entity_profiles e on b.kind = 'entity' and e.id = b.id
      order by b.score desc, e.importance desc, e.id limit 4);
end
$$;
comment on function rollcall.detect is
  'The callers topics and entities that a message is about, each with a score from 0 to 1 and a reason.';
grant execute on function rollcall.detect to authenticated, service_role;

-- Five of the newest 50 units. None for a user of whom a model has learned facts lately: those are in bundles, and
-- supersede each other.
-- Invoker: see bundle_sources.
create function rollcall.recent_statements() returns json
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
begin
  if exists (
    select from (
      select m.is_learned from rollcall.memories m where m.user_id = v_me order by m.created_at desc limit 50) n
    where n.is_learned) then
    return '[]';
  end if;
  return (
    select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('id', r.id, 'content', r.content, 'score', 0,
      'said_on', r.created_at::pg_catalog.date) order by r.created_at desc, r.id), '[]')
    from (
      select n.id, n.content, n.created_at
      from (
        select u.id, u.content, u.created_at, u.is_learned, u.state from rollcall.atomic_chat_units u
        where u.user_id = v_me order by u.created_at desc limit 50
      ) n
      where n.is_learned and n.state = 'active' and n.created_at > now() - interval '30 days'
      order by n.created_at desc, n.id limit 5
    ) r);
end
$$;
comment on function rollcall.recent_statements is 'The last statements that the caller made in conversations.';
grant execute on function rollcall.recent_statements to authenticated, service_role;

-- p_vector: the embedding of the message, where there are embeddings to compare it with. Returns json, because it is
-- sent without being read.
-- Invoker: see bundle_sources.
-- Over 60 lines: one object of nine parts.
create function rollcall.assemble(p_conversation uuid, p_message text, p_history int,
  p_vector text default null) returns json
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_conversation pg_catalog.jsonb;
  v_units pg_catalog.uuid[];
  v_scores real[];
  v_memories pg_catalog.uuid[];
  v_memory_scores real[];
  v_detected pg_catalog.jsonb;
  v_wanted pg_catalog.jsonb;
begin
  select pg_catalog.jsonb_build_object('id', c.id, 'title', c.title, 'messages', s.messages, 'tokens',
    s.tokens) into v_conversation
  from rollcall.conversations c
  cross join lateral (
    select count(*) as messages, coalesce(sum(coalesce(m.token_count, length(m.content) / 4 + 1)), 0) as tokens
    from rollcall.messages m where m.conversation_id = c.id and m.state in ('complete', 'partial')
  ) s
  where c.id = p_conversation;
  if v_conversation is null then
    return null;
  end if;

  select pg_catalog.array_agg(m.id order by m.score desc, m.id), pg_catalog.array_agg(m.score order by m.score desc,
    m.id)
    into v_units, v_scores from rollcall.match_words('unit', p_message, 40) m;
  select pg_catalog.array_agg(m.id order by m.score desc, m.id), pg_catalog.array_agg(m.score order by m.score desc,
    m.id)
    into v_memories, v_memory_scores from rollcall.match_words('memory', p_message, 30) m;
  if p_vector is not null then
    select pg_catalog.array_agg(m.id order by m.n), pg_catalog.array_agg(m.score order by m.n) into v_units, v_scores
    from rollcall.merge_embeddings('unit', v_units, v_scores, p_vector, 0.35, 40) with ordinality m (id, score, n);
    select pg_catalog.array_agg(m.id order by m.n), pg_catalog.array_agg(m.score order by m.n) into v_memories,
      v_memory_scores
    from rollcall.merge_embeddings('memory', v_memories, v_memory_scores, p_vector, 0.40, 30) with ordinality m (id,
      score, n);
  end if;
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(d)), '[]') into v_detected
    from rollcall.detect(p_conversation, p_message, v_units[1:20], v_scores[1:20]) d;
  select pg_catalog.jsonb_build_array(
      pg_catalog.jsonb_build_object('type', 'identity_core'), pg_catalog.jsonb_build_object('type', 'global_prefs'),
      pg_catalog.jsonb_build_object('type', 'conversation', 'ref', p_conversation))
    || coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('type', d ->> 'kind', 'ref', d ->> 'id')), '[]')
    into v_wanted from jsonb_array_elements(v_detected) d;

  return pg_catalog.json_build_object(
    'conversation', v_conversation,
    'detected', v_detected,
    'bundles', rollcall.wanted_bundles(v_wanted),
    'units', coalesce((
      select pg_catalog.json_agg(pg_catalog.json_build_object('id', u.id, 'content', u.content, 'score', m.score,
          'said_on', case when u.is_learned then u.created_at::pg_catalog.date end) order by m.n)
      from unnest(v_units, v_scores) with ordinality m (id, score, n)
      cross join lateral (select * from rollcall.atomic_chat_units u where u.id = m.id
        and u.state = 'active' offset 0) u), '[]'),
    'memories', coalesce((
      select pg_catalog.json_agg(pg_catalog.json_build_object('id', me.id, 'content', me.content, 'score', m.score)
        order by m.n)
      from unnest(v_memories, v_memory_scores) with ordinality m (id, score, n)
      cross join lateral (select * from rollcall.memories me where me.id = m.id and me.is_active offset 0) me), '[]'),
    'recent', rollcall.recent_statements(),
    'history', coalesce((
      select pg_catalog.json_agg(pg_catalog.json_build_object('id', h.id, 'role', h.role, 'content', h.content,
        'tokens', h.token_count,
          'mine', h.user_id = v_me) order by h.message_index)
      from (
        select * from rollcall.messages m
        where m.conversation_id = p_conversation and m.state in ('complete', 'partial')
        order by m.message_index desc limit p_history
      ) h), '[]'),
    'paths', coalesce((
      select d.navigation_history from rollcall.presence_devices d
      where d.user_id = v_me order by d.context_updated_at desc nulls last limit 1), '[]'),
    'seeing', pg_current_snapshot()::pg_catalog.text,
    'access', rollcall.confirmed_access_version(rollcall.context_access_version()),
    'read_at', clock_timestamp());
end
$$;
comment on function rollcall.assemble is
  'Everything that the prompt for one message needs, in one snapshot; null where the caller sees no such conversation.';
grant execute on function rollcall.assemble to authenticated, service_role;

-- Instructions, the most important memories and the last messages. Reads no table of the other engine.
-- Invoker: see bundle_sources.
create function rollcall.assemble_simple(p_conversation uuid, p_history int) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
begin
  if not exists (select from rollcall.conversations c where c.id = p_conversation) then
    return null;
  end if;
  return pg_catalog.jsonb_build_object(
    'instructions', coalesce((
      select pg_catalog.jsonb_agg(i.content order by i.priority desc, i.created_at, i.id)
      from (
        select * from rollcall.custom_instructions i
        where i.user_id = v_me and i.is_active and i.scope = 'global'
        order by i.priority desc, i.created_at, i.id limit 10
      ) i), '[]'),
    'memories', coalesce((
      select pg_catalog.jsonb_agg(m.content order by m.importance desc, m.created_at, m.id)
      from (
        select * from rollcall.memories m
        where m.user_id = v_me and m.is_active
        order by m.importance desc, m.created_at, m.id limit 10
      ) m), '[]'),
    'history', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', h.id, 'role', h.role, 'content', h.content,
        'tokens', h.token_count,
          'mine', h.user_id = v_me) order by h.message_index)
      from (
        select * from rollcall.messages m
        where m.conversation_id = p_conversation and m.state in ('complete', 'partial')
        order by m.message_index desc limit p_history
      ) h), '[]'));
end
$$;
comment on function rollcall.assemble_simple is
  'What the simple context engine needs; null where the caller sees no such conversation.';
grant execute on function rollcall.assemble_simple to authenticated, service_role;

-- p_device null: the device whose signals are newest.
-- Invoker: see bundle_sources.
create function rollcall.context_signals(p_device text, p_hour int) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_device rollcall.presence_devices;
begin
  select * into v_device from rollcall.presence_devices d
  where d.user_id = v_me and (p_device is null or d.device_id = p_device)
  order by d.context_updated_at desc nulls last, d.last_heartbeat_at desc
  limit 1;
  if not found then
    return null;
  end if;
  return pg_catalog.jsonb_build_object(
    'device_id', v_device.device_id,
    'active_conversation_id', (select c.id from rollcall.conversations c where c.id = v_device.active_conversation_id),
    'visible_conversation_ids', coalesce((
      select pg_catalog.jsonb_agg(v.id order by v.n)
        from pg_catalog.unnest(v_device.visible_conversation_ids) with ordinality v (id, n)
      where v.id in (select c.id from rollcall.conversations c where c.id = any (v_device.visible_conversation_ids))),
        '[]'),
    'navigation_history', v_device.navigation_history,
    'local_time', v_device.local_time,
    'active_topics', coalesce((
      select pg_catalog.jsonb_agg(x.topic_id order by x.relevance desc, x.topic_id) from (
        select l.topic_id, l.relevance from rollcall.topic_conversations l
        where l.conversation_id = v_device.active_conversation_id and l.user_id = v_me
        order by l.relevance desc, l.topic_id limit 5) x), '[]'),
    'hours', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', x.id, 'hour', x.peak_hour, 'importance',
        x.importance)
        order by x.importance desc, x.id)
      from (
        select t.id, t.peak_hour, t.importance from rollcall.topic_profiles t
        where t.user_id = v_me and t.importance >= 0.4::real
          and t.peak_hour = coalesce(p_hour, extract(hour from now())::int)
        order by t.importance desc, t.id limit 3
      ) x), '[]'),
    'hot', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', x.id, 'importance', x.importance)
        order by x.streak_days desc,
        x.importance desc, x.id)
      from (
        select t.id, t.streak_days, t.importance from rollcall.topic_profiles t
        where t.user_id = v_me and t.last_engaged_at > now() - interval '48 hours'
        order by t.streak_days desc, t.importance desc, t.id limit 5
      ) x), '[]'),
    'entities', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', x.id, 'importance', x.importance)
        order by x.importance desc, x.id)
      from (
        select e.id, e.importance from rollcall.entity_profiles e
        where e.user_id = v_me and e.last_mentioned_at > now() - interval '72 hours'
        order by e.last_mentioned_at desc, e.id limit 5
      ) x), '[]'));
end
$$;
comment on function rollcall.context_signals is
  'The context signals of a device and the recent subjects of the caller; null without a device.';
grant execute on function rollcall.context_signals to authenticated, service_role;

-- Definer: freshness needs source changes; answers for auth.uid() unless the role is service_role.
create function rollcall.context_counts() returns jsonb
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me constant uuid := auth.uid();
  v_all constant boolean := coalesce(auth.role() = 'service_role', false);
begin
  return (
    select jsonb_build_object(
      'topicProfiles', (select count(*) from rollcall.topic_profiles t where v_all or t.user_id = v_me),
      'entityProfiles', (select count(*) from rollcall.entity_profiles e where v_all or e.user_id = v_me),
      'contextBundles', count(*),
      'dirtyBundles', count(*) filter (where b.dirty or rollcall_internal.has_newer_source_change(b, true)),
      'invalidationQueue', (select count(*) from rollcall.system_actions a
        where (v_all or a.user_id = v_me) and a.status in ('pending', 'processing')),
      'deadLetters', (select count(*) from rollcall.system_actions a where (v_all or a.user_id = v_me)
        and a.status = 'failed'),
      'freshTopicBundles', count(*) filter (where b.bundle_type = 'topic' and rollcall_internal.is_fresh(b)),
      'freshEntityBundles', count(*) filter (where b.bundle_type = 'entity' and rollcall_internal.is_fresh(b)),
      'freshConversationBundles', count(*) filter (where b.bundle_type = 'conversation'
        and rollcall_internal.is_fresh(b)),
      'totalFreshBundles', count(*) filter (where rollcall_internal.is_fresh(b)))
    from rollcall.context_bundles b where v_all or b.user_id = v_me
  );
end
$$;
comment on function rollcall.context_counts is
  'Counts of bundles and their states: of the caller, or of all users for service_role.';
grant execute on function rollcall.context_counts to authenticated, service_role;

-- The bundle of the given subject, or all of these types without one.
-- Definer: only the server writes flags; acts for auth.uid() only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.invalidate_mine(p_event text, p_types rollcall.bundle_type[], p_topic uuid, p_entity uuid,
    p_conversation uuid, p_memory uuid, p_instruction uuid) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_me constant pg_catalog.uuid := rollcall_internal.caller_id();
  v_bundles pg_catalog.uuid[];
  v_count int;
  v_narrow constant boolean := pg_catalog.num_nonnulls(p_topic, p_entity, p_conversation, p_memory, p_instruction) > 0;
begin
  select coalesce(pg_catalog.array_agg(b.id), '{}') into v_bundles
  from rollcall.context_bundles b
  where b.user_id = v_me and b.bundle_type = any (p_types)
    and (not v_narrow
      -- There is one of each, so an id does not narrow them.
      or (b.bundle_type in ('identity_core', 'global_prefs'))
      or b.topic_id = p_topic or b.entity_id = p_entity or b.conversation_id = p_conversation
      or p_memory = any (b.memory_ids) or p_instruction = any (b.instruction_ids));
  v_count := pg_catalog.cardinality(v_bundles);
  -- Recorded, because a bundle that is locked or being compiled now cannot be marked now.
  perform rollcall_internal.record_source_changes(p_event, array_fill('bundle'::pg_catalog.text, array[v_count]),
    array_fill(v_me, array[v_count]), v_bundles);
  return v_count;
end
$$;
comment on function rollcall.invalidate_mine is
  'Invalidates bundles of the caller, also those that are being compiled; returns how many.';
grant execute on function rollcall.invalidate_mine to authenticated, service_role;

-- Turns of a chat -----------------------------------------------------------------------------------------------------

-- The user's message is written as the user, under policies; only the server writes messages of models. Each is saved
-- once, however often the request is sent.

-- Definer: only the server writes messages of models; only for a question of auth.uid().
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.open_answer(p_question uuid) returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_question rollcall.messages;
  v_answer rollcall.messages;
begin
  -- One request at a time.
  select * into v_question from rollcall.messages m
  where m.id = p_question and m.user_id = rollcall_internal.caller_id() and m.role = 'user' for no key update;
  if not found then
    return pg_catalog.jsonb_build_object('state', 'busy');
  end if;
  select * into v_answer from rollcall.messages m where m.reply_to = p_question and m.role = 'assistant'
  order by m.message_index desc limit 1;
  if v_answer.state in ('complete', 'partial') then
    return pg_catalog.jsonb_build_object('state', 'replay', 'answer_id', v_answer.id, 'content', v_answer.content,
      'metadata', v_answer.metadata, 'partial', v_answer.state = 'partial');
  elsif v_answer.state = 'pending' and v_answer.updated_at > clock_timestamp() - interval '2 minutes' then
    return pg_catalog.jsonb_build_object('state', 'busy');
  elsif v_answer.id is not null then
    -- Its server stopped, or it failed.
    update rollcall.messages m set state = 'pending' where m.id = v_answer.id;
  else
    insert into rollcall.messages (conversation_id, user_id, role, content, state, idempotency_key, reply_to)
    values (v_question.conversation_id, v_question.user_id, 'assistant', '', 'pending', v_question.idempotency_key,
      p_question)
    returning * into v_answer;
  end if;
  return pg_catalog.jsonb_build_object('state', 'new', 'answer_id', v_answer.id);
end
$$;
comment on function rollcall.open_answer is
  'Opens the answer to one of the callers questions, or returns the existing one.';
grant execute on function rollcall.open_answer to authenticated, service_role;

-- Returns "state": new, replay (with the existing answer), busy (being answered) or mismatch (the key with another
-- question).
-- Invoker: row-level security decides who may write here. Without a search_path of its own, because it evaluates
-- users' policies.
create function rollcall.begin_turn(p_conversation uuid, p_content text, p_tokens int, p_key text) returns jsonb
  language plpgsql volatile security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
  v_question rollcall.messages;
begin
  if p_key is not null then
    select * into v_question from rollcall.messages m
    where m.conversation_id = p_conversation and m.user_id = v_me and m.role = 'user' and m.idempotency_key = p_key;
    if found and v_question.content <> p_content then
      return pg_catalog.jsonb_build_object('state', 'mismatch');
    end if;
  end if;
  if v_question.id is null then
    insert into rollcall.messages (conversation_id, user_id, role, content, parts, token_count, idempotency_key)
    values (p_conversation, v_me, 'user', p_content,
      pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('type', 'text', 'text', p_content)), p_tokens, p_key)
    on conflict (conversation_id, user_id, role, idempotency_key) where idempotency_key is not null do nothing
    returning * into v_question;
    if v_question.id is null then
      -- Another request was first.
      return pg_catalog.jsonb_build_object('state', 'busy');
    end if;
  end if;
  return rollcall.open_answer(v_question.id) || pg_catalog.jsonb_build_object('question_id', v_question.id);
end
$$;
comment on function rollcall.begin_turn is 'Saves a question once and opens its answer.';
grant execute on function rollcall.begin_turn to authenticated, service_role;

-- A failed answer is deleted.
-- Definer: only the server writes messages of models.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.end_answer(p_answer uuid, p_state rollcall.message_state, p_content text,
  p_tokens int, p_metadata jsonb)
  returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  if p_state = 'failed' then
    delete from rollcall.messages m where m.id = p_answer and m.state = 'pending';
    return found;
  end if;
  update rollcall.messages m set state = p_state, content = p_content, token_count = p_tokens, metadata = p_metadata,
    parts = pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('type', 'text', 'text', p_content))
  where m.id = p_answer and m.state = 'pending';
  if not found then
    return false;
  end if;
  update rollcall.conversations c set last_message_at = greatest(c.last_message_at, clock_timestamp())
  where c.id = (select m.conversation_id from rollcall.messages m where m.id = p_answer);
  return true;
end
$$;
comment on function rollcall_internal.end_answer is
  'Ends an answer as complete, partial or failed; false where it was ended before.';

-- Definer: see end_answer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.touch_answer(p_answer uuid) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  update rollcall.messages m set updated_at = now() where m.id = p_answer and m.state = 'pending';
end
$$;
comment on function rollcall_internal.touch_answer is 'Keeps an answer that is being written from being taken over.';

-- Definer: for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.purge_pending_answers() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_count bigint;
begin
  delete from rollcall.messages m
    where m.state = 'pending' and m.updated_at < clock_timestamp() - interval '15 minutes';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.purge_pending_answers is
  'Deletes answers that no server writes any more; returns how many.';

-- schemas/85_context_work.sql ----------------------------------------------------------------------------------------

-- Background work of the context engine. Servers claim work with SKIP LOCKED; work that a server claimed and did not
-- finish is claimed again.

-- p_bundles: [{"type", "ref", "content", "tokens", "memory_ids", "unit_ids", "instruction_ids", "conversation_ids",
-- "topic_ids", "priority"}]. A null content deletes the bundle. An older compilation never replaces a newer one. The
-- lock is shared among writers and excludes mark_stale_bundles. Sources read more than five minutes ago are refused,
-- because recorded changes are deleted after ten. Bundles and subjects that another transaction has locked are skipped:
-- a transaction of the application that flagged a bundle may go on to delete its subject, and must never be the one
-- that a deadlock ends.
-- Over 60 lines: one statement decides what to store, so that what is locked and what is written agree.
-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.store_bundles(p_user uuid, p_bundles jsonb, p_seeing pg_snapshot,
  p_read_at timestamptz, p_access bigint)
  returns table (id uuid, bundle_type rollcall.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  if p_read_at < clock_timestamp() - interval '5 minutes' then
    return;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.context_bundles', 0));
  -- One at a time per user: one writer may delete what another stores.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.bundles_of:' || p_user, 0));

  with emptied as (
    select b.id
    from rollcall.context_bundles b
    join pg_catalog.jsonb_to_recordset(p_bundles) as x (type rollcall.bundle_type, ref pg_catalog.uuid,
      content pg_catalog.text)
      on x.content is null and b.bundle_type = x.type
      and x.ref is not distinct from coalesce(b.topic_id, b.entity_id, b.conversation_id)
    where b.user_id = p_user and b.compiled_at < p_read_at
    for update of b skip locked
  )
  delete from rollcall.context_bundles b using emptied e where b.id = e.id;

  return query
    with free as (
      select b.id from rollcall.context_bundles b where b.user_id = p_user for no key update skip locked
    ),
    given as (
      select * from pg_catalog.jsonb_to_recordset(p_bundles) as x (type rollcall.bundle_type, ref pg_catalog.uuid,
        content pg_catalog.text,
        tokens int,
        memory_ids pg_catalog.uuid[], unit_ids pg_catalog.uuid[], instruction_ids pg_catalog.uuid[],
          conversation_ids pg_catalog.uuid[], topic_ids pg_catalog.uuid[], priority real)
      where x.content is not null
        and not exists (
          select from rollcall.context_bundles b
          where b.user_id = p_user and b.bundle_type = x.type
            and x.ref is not distinct from coalesce(b.topic_id, b.entity_id, b.conversation_id)
            and b.id not in (select f.id from free f)
        )
        -- Deleted or being deleted: the bundle would refer to nothing.
        and case x.type
          when 'topic' then exists (select from rollcall.topic_profiles t where t.id = x.ref for key share skip locked)
          when 'entity' then exists (select from rollcall.entity_profiles e
            where e.id = x.ref for key share skip locked)
          when 'conversation' then exists (select from rollcall.conversations c
            where c.id = x.ref for key share skip locked)
          else x.ref is null end
    ),
    stored as (
      insert into rollcall.context_bundles as b (user_id, bundle_type, topic_id, entity_id, conversation_id, content,
        token_count, memory_ids, unit_ids, instruction_ids, conversation_ids, topic_ids, priority, compiled_at,
        compiled_seeing, access_version, expires_at, dirty)
      select p_user, g.type, case g.type when 'topic' then g.ref end, case g.type when 'entity' then g.ref end,
        case g.type when 'conversation' then g.ref end, g.content, g.tokens, coalesce(g.memory_ids, '{}'),
        coalesce(g.unit_ids, '{}'), coalesce(g.instruction_ids, '{}'), coalesce(g.conversation_ids, '{}'),
        coalesce(g.topic_ids, '{}'), coalesce(g.priority, 50), p_read_at, p_seeing, p_access,
        p_read_at + rollcall_internal.bundle_ttl(g.type), false
      from given g
      order by g.type, g.ref
      on conflict on constraint context_bundles_subject do update set
        content = excluded.content, token_count = excluded.token_count, memory_ids = excluded.memory_ids,
        unit_ids = excluded.unit_ids, instruction_ids = excluded.instruction_ids,
        conversation_ids = excluded.conversation_ids, topic_ids = excluded.topic_ids, priority = excluded.priority,
        compiled_at = excluded.compiled_at, compiled_seeing = excluded.compiled_seeing,
        access_version = excluded.access_version,
          expires_at = excluded.expires_at,
        version = b.version + 1, dirty = false
      where b.compiled_at < excluded.compiled_at
      returning b.*
    )
    select s.id, s.bundle_type, s.version, false from stored s;
end
$$;
comment on function rollcall_internal.store_bundles is
  'Stores compiled bundles of one snapshot; returns those that are newer than what was stored.';

-- In the transaction of store_bundles but in a later statement, whose snapshot includes the stored rows.
-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.finish_compilation(p_bundles uuid[]) returns uuid[]
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_stale pg_catalog.uuid[];
begin
  select coalesce(pg_catalog.array_agg(b.id), '{}') into v_stale
  from rollcall.context_bundles b where b.id = any (p_bundles) and not b.dirty
    and (rollcall_internal.has_newer_source_change(b, false)
      or b.access_version is distinct from rollcall.context_access_version());
  update rollcall.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = null
  where a.bundle_id = any (p_bundles) and a.bundle_id <> all (v_stale) and a.status in ('pending', 'processing');
  if v_stale <> '{}' then
    update rollcall.system_actions a set status = 'completed', finished_at = clock_timestamp()
    where a.bundle_id = any (v_stale) and a.status = 'processing';
    perform rollcall_internal.flag_bundles(v_stale, 'overtaken');
  end if;
  return v_stale;
end
$$;
comment on function rollcall_internal.finish_compilation is
  'Marks stored bundles that a newer change or access version contradicts as dirty; ends the queue entries of others.';

-- At most 80 bundles per notification.
-- Invoker: called by definer functions only.
create function rollcall_internal.notify_bundles_ready(p_user uuid, p_bundles text[]) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_nonce text;
begin
  for v_first in 1 .. cardinality(p_bundles) by 80 loop
    v_nonce := rollcall_internal.notification_nonce();
    perform rollcall_internal.notify('rollcall_bundles',
      (rollcall_internal.mask_ids(v_nonce, array[p_user]))[1] || '|'
        || array_to_string(p_bundles[v_first : v_first + 79], ','), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_bundles_ready is
  'Notifies nodes of compiled bundles, given as `type:id:version`.';

-- Waits at most 300 ms for a lock, well below deadlock_timeout: a transaction that flagged these bundles may be about
-- to delete their subjects. Bundles that were not stored stay dirty and are compiled again (complete_actions).
-- p_access: the access version that the sources were read under; null: it changed while they were read.
-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.store_compiled_bundles(
  p_user uuid, p_bundles jsonb, p_seeing text, p_read_at timestamptz, p_notify boolean,
  p_access bigint default rollcall.context_access_version()
) returns table (id uuid, bundle_type rollcall.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set lock_timeout = '300ms'
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_stored pg_catalog.uuid[];
  v_stale pg_catalog.uuid[];
begin
  select pg_catalog.array_agg(s.id) into v_stored
    from rollcall_internal.store_bundles(p_user, p_bundles, p_seeing::pg_catalog.pg_snapshot, p_read_at,
      p_access) s;
  if v_stored is null then
    return;
  end if;
  -- If policies change back, mark_stale_by_access looks for bundles of this version.
  update rollcall_internal.context_access_version a set version = p_access where a.version <> p_access;
  v_stale := rollcall_internal.finish_compilation(v_stored);
  if p_notify then
    perform rollcall_internal.notify_bundles_ready(p_user, array(
      select pg_catalog.format('%s:%s:%s', b.bundle_type, b.id, b.version)
      from rollcall.context_bundles b where b.id = any (v_stored) and b.id <> all (v_stale)));
  end if;
  return query
    select b.id, b.bundle_type, b.version, b.id = any (v_stale)
    from rollcall.context_bundles b where b.id = any (v_stored);
exception when lock_not_available or deadlock_detected then
  return;
end
$$;
comment on function rollcall_internal.store_compiled_bundles is
  'Stores compiled bundles and notifies the users sockets if asked; no rows where others hold the locks.';

-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.count_bundle_uses(p_bundles uuid[], p_hits int[], p_misses int[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  update rollcall.context_bundles b set
    use_count = b.use_count + free.hits + free.misses,
    hit_count = b.hit_count + free.hits,
    miss_count = b.miss_count + free.misses,
    last_used_at = clock_timestamp()
  from (
    select l.id, u.hits, u.misses
    from unnest(p_bundles, p_hits, p_misses) u (id, hits, misses) join rollcall.context_bundles l on l.id = u.id
    order by l.id for no key update of l skip locked
  ) free
  where b.id = free.id;
end
$$;
comment on function rollcall_internal.count_bundle_uses is 'Counts how often prompts used bundles; skips locked rows.';

-- Queue ---------------------------------------------------------------------------------------------------------------

-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.enqueue_warm_up() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  insert into rollcall.system_actions (user_id, kind, trigger)
  select new.user_id, 'warm_up', 'presence'
  where not exists (
    select from rollcall.system_actions a where a.user_id = new.user_id and a.kind = 'warm_up'
      and a.status = 'pending');
  return null;
end
$$;
comment on function rollcall_internal.enqueue_warm_up is
  'Trigger function: queues one warm-up per user when context signals change.';

create trigger enqueue_warm_up_of_new after insert on rollcall.presence_devices
  for each row when (new.context_version is not null) execute function rollcall_internal.enqueue_warm_up();
create trigger enqueue_warm_up after update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on rollcall.presence_devices
  for each row when (old.context_version is distinct from new.context_version)
  execute function rollcall_internal.enqueue_warm_up();

-- A user waits for a warm-up.
-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.claim_actions(p_limit int)
  returns table (id uuid, user_id uuid, kind text, bundle_id uuid, bundle_type rollcall.bundle_type, ref uuid,
    attempts int)
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  return query
    with due as (
      select a.id from rollcall.system_actions a
      where a.status = 'pending' and a.run_after <= clock_timestamp()
      order by a.kind desc, a.run_after, a.id
      limit p_limit for update skip locked
    ),
    taken as (
      update rollcall.system_actions a set status = 'processing', attempts = a.attempts + 1,
        started_at = clock_timestamp()
      from due where a.id = due.id
      returning a.*
    )
    select t.id, t.user_id, t.kind, t.bundle_id, b.bundle_type, coalesce(b.topic_id, b.entity_id, b.conversation_id),
      t.attempts
    from taken t left join rollcall.context_bundles b on b.id = t.bundle_id
    order by t.id;
end
$$;
comment on function rollcall_internal.claim_actions is 'Claims due entries of the background queue, warm-ups first.';

-- A bundle stays dirty when storing skipped it. It is retried after 500 ms unless a newer entry exists.
-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.complete_actions(p_actions uuid[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  update rollcall.system_actions a set
    status = case when l.left_out then 'pending' else 'completed' end::rollcall.action_status,
    run_after = case when l.left_out then clock_timestamp() + interval '500 milliseconds' else a.run_after end,
    finished_at = case when not l.left_out then clock_timestamp() end,
    error = null
  from (
    select x.id, exists (select from rollcall.context_bundles b where b.id = x.bundle_id and b.dirty)
      and not exists (select from rollcall.system_actions o where o.bundle_id = x.bundle_id and o.status = 'pending')
      as left_out
    from rollcall.system_actions x where x.id = any (p_actions)
  ) l
  where a.id = l.id and a.status = 'processing';
end
$$;
comment on function rollcall_internal.complete_actions is
  'Ends queue entries; one whose bundle is still dirty is queued again.';

-- Given up: status `failed`, with the error.
-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.fail_action(p_action uuid, p_error text, p_wait interval,
  p_max_attempts int) returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_action rollcall.system_actions;
begin
  select * into v_action from rollcall.system_actions a where a.id = p_action and a.status = 'processing' for update;
  if not found then
    return;
  end if;
  update rollcall.system_actions a set
    error = left(p_error, 1000),
    finished_at = clock_timestamp(),
    run_after = clock_timestamp() + p_wait,
    status = case
      when a.attempts >= p_max_attempts then 'failed'
      -- A newer entry replaces it.
      when a.bundle_id is not null and exists (
        select from rollcall.system_actions o where o.bundle_id = a.bundle_id and o.status = 'pending') then 'completed'
      else 'pending' end::rollcall.action_status
  where a.id = p_action;
end
$$;
comment on function rollcall_internal.fail_action is
  'Schedules a failed queue entry again, or gives it up after its last attempt.';

-- Also returns entries to the queue that were claimed more than five minutes ago.
-- Definer: acts on rows of all users; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.purge_context() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_count bigint;
  v_all bigint := 0;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall_internal.purge_context', 0)) then
    return 0;
  end if;
  perform rollcall_internal.mark_stale_bundles();
  -- Twice the age of the oldest sources that may still be stored.
  delete from rollcall_internal.context_source_changes m where m.seen_at < clock_timestamp() - interval '10 minutes';
  get diagnostics v_all = row_count;
  update rollcall.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = 'overtaken'
  where a.status = 'processing' and a.started_at < clock_timestamp() - interval '5 minutes' and a.bundle_id is not null
    and exists (select from rollcall.system_actions o where o.bundle_id = a.bundle_id and o.status = 'pending');
  update rollcall.system_actions a set status = 'pending', run_after = clock_timestamp()
  where a.status = 'processing' and a.started_at < clock_timestamp() - interval '5 minutes';
  -- A dirty bundle without an entry, such as one given up long ago, is compiled when it is next needed.
  delete from rollcall.system_actions a where a.status = 'completed'
    and a.finished_at < clock_timestamp() - interval '1 hour';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from rollcall.system_actions a where a.status = 'failed'
    and a.finished_at < clock_timestamp() - interval '30 days';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from rollcall.model_usage u where u.created_at < clock_timestamp() - interval '400 days';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from rollcall.context_bundles b
  where b.expires_at < clock_timestamp() - interval '7 days'
    and coalesce(b.last_used_at, b.compiled_at) < clock_timestamp() - interval '30 days';
  get diagnostics v_count = row_count;
  return v_all + v_count;
end
$$;
comment on function rollcall_internal.purge_context is
  'Processes recorded changes and deletes expired rows of the context engine; returns how many.';

-- Embeddings ----------------------------------------------------------------------------------------------------------

-- Search by meaning, where the server has an embeddings API and the database has pgvector. A vector is always of the
-- current text of its row.

-- For vectors of p_dimensions numbers by p_model; vectors of another model are deleted. Objects that name the type
-- `vector` are created here, because the type may not exist at installation.
-- Invoker: for the owner of the tables, which the server is.
-- Over 60 lines: it creates a table, an index, six triggers and four functions.
create function rollcall_internal.prepare_vectors(p_model text, p_dimensions int) returns boolean
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema text;
  v_version text;
  v_indexed boolean;
  v_made_for constant text := format('%s numbers by %s', p_dimensions, p_model);
begin
  perform pg_advisory_xact_lock(hashtextextended('rollcall_internal.vectors', 0));
  if not exists (select from pg_catalog.pg_extension e where e.extname = 'vector') then
    begin
      create extension vector with schema extensions;
      insert into rollcall_internal.installed_objects (kind, name, undo)
        values ('extension', 'vector', 'drop extension if exists vector cascade');
    exception when others then
      raise notice 'pgvector is not available (%): search uses words only', sqlerrm;
      return false;
    end;
  end if;
  select n.nspname, e.extversion into v_schema, v_version
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  if obj_description(to_regclass('rollcall_internal.vectors'), 'pg_class') = v_made_for then
    return true;
  end if;

  if to_regclass('rollcall_internal.vectors') is not null then
    delete from rollcall.personal_data d where d.relation = to_regclass('rollcall_internal.vectors');
    drop table rollcall_internal.vectors;
  end if;
  execute format($f$
    create table rollcall_internal.vectors (
      kind text not null constraint vectors_kind_is_known check (kind in ('unit', 'memory')),
      id uuid not null,
      user_id uuid not null,
      vector %1$I.vector(%2$s),
      version bigint not null default 1,
      attempts int not null default 0,
      run_after timestamptz not null default now(),
      constraint vectors_pkey primary key (kind, id)
    )$f$, v_schema, p_dimensions);
  execute format('comment on table rollcall_internal.vectors is %L', v_made_for);
  -- In the row where one fits into a page: reading a value from elsewhere costs more than comparing it.
  if p_dimensions <= 1900 then
    alter table rollcall_internal.vectors alter column vector set storage plain;
  end if;
  create index vectors_user_id on rollcall_internal.vectors (user_id, kind);
  create index vectors_wanted on rollcall_internal.vectors (run_after) where vector is null;
  alter table rollcall_internal.vectors enable row level security;
  insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason)
    values ('rollcall_internal.vectors', 'user_id', false, null,
      'numbers made of units and memories, with which they go');
  insert into rollcall_internal.vectors (kind, id, user_id)
    select 'unit', u.id, u.user_id from rollcall.atomic_chat_units u
    union all
    select 'memory', m.id, m.user_id from rollcall.memories m;

  -- Definer: called from triggers of any writer; only the server writes the table.
  create or replace function rollcall_internal.enqueue_embeddings() returns trigger
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
  as $f$
  begin
    if tg_op = 'INSERT' then
      insert into rollcall_internal.vectors (kind, id, user_id) select tg_argv[0], c.id, c.user_id from new_rows c
        on conflict (kind, id) do nothing;
    elsif tg_op = 'DELETE' then
      delete from rollcall_internal.vectors v using old_rows g where v.kind = tg_argv[0] and v.id = g.id;
    else
      update rollcall_internal.vectors v set user_id = c.user_id, version = v.version + 1, attempts = 0,
        run_after = clock_timestamp(),
          vector = null
        from old_rows g join new_rows c on c.id = g.id
        where v.kind = tg_argv[0] and v.id = c.id and (g.content, g.user_id) is distinct from (c.content, c.user_id);
    end if;
    return null;
  end
  $f$;
  create or replace trigger enqueue_embeddings_of_new after insert on rollcall.atomic_chat_units
    referencing new table as new_rows for each statement execute function rollcall_internal.enqueue_embeddings('unit');
  create or replace trigger enqueue_embeddings after update on rollcall.atomic_chat_units
    referencing old table as old_rows new table as new_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('unit');
  create or replace trigger delete_embeddings after delete on rollcall.atomic_chat_units
    referencing old table as old_rows for each statement execute function rollcall_internal.enqueue_embeddings('unit');
  create or replace trigger enqueue_embeddings_of_new after insert on rollcall.memories
    referencing new table as new_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('memory');
  create or replace trigger enqueue_embeddings after update on rollcall.memories
    referencing old table as old_rows new table as new_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('memory');
  create or replace trigger delete_embeddings after delete on rollcall.memories
    referencing old table as old_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('memory');

  -- Stores vectors of texts that have not changed since; returns how many. Definer: only the server writes vectors.
  execute format($f$
    create or replace function rollcall_internal.store_vectors(p_kinds text[], p_ids uuid[], p_versions bigint[],
      p_vectors text[]) returns bigint
      language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $g$
      with stored as (
        update rollcall_internal.vectors v set vector = x.vector::%1$I.vector, attempts = 0
        from unnest(p_kinds, p_ids, p_versions, p_vectors) x (kind, id, version, vector)
        where v.kind = x.kind and v.id = x.id and v.version = x.version
        returning 1
      )
      select count(*) from stored
    $g$
    $f$, v_schema);
  -- At most 2,000 dimensions can be indexed, since pgvector 0.5.
  v_indexed := p_dimensions <= 2000 and exists (select from pg_catalog.pg_am a where a.amname = 'hnsw');
  if v_indexed then
    -- One for each kind: the nearest vectors of both would mostly be of the kind with more rows.
    execute format('create index vectors_nearest_units on rollcall_internal.vectors using hnsw
      (vector %I.vector_cosine_ops) where kind = ''unit''', v_schema);
    execute format('create index vectors_nearest_memories on rollcall_internal.vectors using hnsw
      (vector %I.vector_cosine_ops) where kind = ''memory''', v_schema);
    -- By an index, which ranks the vectors of all users: fewer than p_limit rows if others' are nearer. Without sorts
    -- the planner has no other choice. Definer: see match_embeddings.
    execute format($f$
      create or replace function rollcall_internal.nearest_by_index(p_user uuid, p_kind text, p_vector %1$I.vector,
        p_limit int) returns table (id uuid, score real)
        language plpgsql stable security definer rows 40 set search_path = pg_catalog, pg_temp set enable_sort = off
        set hnsw.ef_search = 200 %2$s
      as $g$
      begin
        if p_kind = 'unit' then
          return query
            select v.id, (1 - (v.vector operator(%1$I.<=>) p_vector))::real
            from rollcall_internal.vectors v
            where v.user_id = p_user and v.kind = 'unit' and v.vector is not null
            order by v.vector operator(%1$I.<=>) p_vector
            limit p_limit;
        else
          return query
            select v.id, (1 - (v.vector operator(%1$I.<=>) p_vector))::real
            from rollcall_internal.vectors v
            where v.user_id = p_user and v.kind = 'memory' and v.vector is not null
            order by v.vector operator(%1$I.<=>) p_vector
            limit p_limit;
        end if;
      end
      $g$
      $f$, v_schema, case when string_to_array(v_version, '.')::int[] >= '{0,8}'
        then 'set hnsw.iterative_scan = strict_order' end);
    revoke execute on function rollcall_internal.nearest_by_index from public;
  end if;
  -- The caller's units or memories with the nearest vectors, best first, with the cosine similarity. Exact up to 4,000
  -- vectors (10 ms with 1,536 dimensions), and where the index finds too few. Definer: reads vectors; answers for
  -- auth.uid() only, with ids.
  execute format($f$
    create or replace function rollcall.match_embeddings(p_kind text, p_vector text,
      p_limit int) returns table (id uuid, score real)
      language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 40
    as $g$
    declare
      v_me constant uuid := auth.uid();
      -- Parsed once, not once per row.
      v_vector constant %1$I.vector := p_vector::%1$I.vector;
      v_ids uuid[];
      v_scores real[];
    begin
      if %2$s and exists (
        select from rollcall_internal.vectors v where v.user_id = v_me and v.kind = p_kind offset 4000 limit 1
      ) then
        %3$s
        if cardinality(v_ids) = p_limit then
          return query select * from unnest(v_ids, v_scores);
          return;
        end if;
      end if;
      return query
        select d.id, (1 - d.distance)::real
        from (
          select v.id, v.vector operator(%1$I.<=>) v_vector as distance from rollcall_internal.vectors v
          where v.user_id = v_me and v.kind = p_kind and v.vector is not null offset 0
        ) d
        order by d.distance, d.id
        limit p_limit;
    end
    $g$
    $f$, v_schema, v_indexed::text, case when v_indexed then
      'select array_agg(n.id), array_agg(n.score) into v_ids, v_scores
          from rollcall_internal.nearest_by_index(v_me, p_kind, v_vector, p_limit) n;' end);
  revoke execute on function rollcall_internal.enqueue_embeddings(),
    rollcall_internal.store_vectors(text[], uuid[], bigint[], text[]),
    rollcall.match_embeddings(text, text, int) from public;
  grant execute on function rollcall.match_embeddings(text, text, int) to authenticated, service_role;
  comment on function rollcall_internal.enqueue_embeddings is
    'Trigger function: queues new and changed texts for an embedding.';
  comment on function rollcall_internal.store_vectors is 'Stores vectors of unchanged texts; returns how many.';
  comment on function rollcall.match_embeddings is 'The caller''s units or memories with the nearest vectors.';
  perform rollcall_internal.record_triggers();
  return true;
end
$$;
comment on function rollcall_internal.prepare_vectors is
  'Creates what search by meaning needs; false where the database has no pgvector.';

-- Invoker: for the server only.
create function rollcall_internal.claim_embedding_texts(p_limit int) returns table (kind text, id uuid, version bigint,
  content text)
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    with due as (
      select v.kind, v.id from rollcall_internal.vectors v
      where v.vector is null and v.run_after <= clock_timestamp()
      order by v.run_after limit p_limit for update skip locked
    ),
    taken as (
      update rollcall_internal.vectors v set attempts = v.attempts + 1,
        run_after = clock_timestamp() + least(interval '1 hour',
          interval '30 seconds' * 2 ^ least(v.attempts, 8)) * (0.75 + random() / 2)
      from due where v.kind = due.kind and v.id = due.id
      returning v.kind, v.id, v.version
    )
    select t.kind, t.id, t.version, x.content
    from taken t
    cross join lateral (
      select u.content from rollcall.atomic_chat_units u where t.kind = 'unit' and u.id = t.id
      union all
      select m.content from rollcall.memories m where t.kind = 'memory' and m.id = t.id
    ) x;
end
$$;
comment on function rollcall_internal.claim_embedding_texts is
  'Claims texts that need an embedding; a text that is not stored is claimed again later.';

-- schemas/90_roll_ups.sql --------------------------------------------------------------------------------------------

-- The roll-up: from units to the profiles of topics and entities. At most one per user at a time, on any node, by a
-- lease that its holder must still have when it writes.

create table rollcall_internal.roll_ups (
  user_id uuid primary key,
  lease uuid,
  lease_expires_at timestamptz,
  last_started_at timestamptz,
  last_finished_at timestamptz
);
comment on table rollcall_internal.roll_ups is 'Which users have a roll-up running, and when the last one was.';
-- No policies: only the server uses it.
alter table rollcall_internal.roll_ups enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  -- First: a roll-up that is running loses its lease and writes nothing.
  ('rollcall_internal.roll_ups', 'user_id', false, 5, 'when the server last processed the user''s units');

-- The lease of three minutes is longer than the longest roll-up.
-- Definer: for the server only.
create function rollcall_internal.begin_roll_up(p_user uuid, p_force boolean) returns uuid
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_lease uuid;
begin
  insert into rollcall_internal.roll_ups as r (user_id, lease, lease_expires_at, last_started_at)
  values (p_user, gen_random_uuid(), clock_timestamp() + interval '3 minutes', clock_timestamp())
  on conflict (user_id) do update set lease = excluded.lease, lease_expires_at = excluded.lease_expires_at,
    last_started_at = excluded.last_started_at
  where r.lease is null or r.lease_expires_at < clock_timestamp() or p_force
  returning lease into v_lease;
  return v_lease;
end
$$;
comment on function rollcall_internal.begin_roll_up is
  'Takes the roll-up lease of a user; null where another holder has it, unless p_force takes it over.';

-- Definer: for the server only.
create function rollcall_internal.end_roll_up(p_user uuid, p_lease uuid) returns void
  language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  update rollcall_internal.roll_ups r set lease = null, lease_expires_at = null, last_finished_at = clock_timestamp()
  where r.user_id = p_user and r.lease = p_lease
$$;
comment on function rollcall_internal.end_roll_up is 'Releases the roll-up lease of a user.';

-- Definer: for the server only.
create function rollcall_internal.roll_ups_due(p_limit int) returns setof uuid
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select u.user_id from rollcall.atomic_chat_units u
  where u.processed_at is null and u.state = 'active'
  group by u.user_id
  order by min(u.created_at)
  limit p_limit
$$;
comment on function rollcall_internal.roll_ups_due is 'Users with unprocessed units, longest waiting first.';

-- Oldest units first. Each word is [token, stem]; an empty stem is a stop word, null ends a phrase.
-- Invoker: see bundle_sources.
create function rollcall.roll_up_sources(p_limit int) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant pg_catalog.uuid := auth.uid();
begin
  return pg_catalog.jsonb_build_object(
    'units', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', u.id, 'conversation_id', u.conversation_id,
        'content', u.content,
          'created_at', u.created_at, 'words', w.words) order by u.created_at, u.id)
      from (
        select * from rollcall.atomic_chat_units u
        where u.user_id = v_me and u.processed_at is null and u.state = 'active'
        order by u.created_at, u.id limit p_limit
      ) u
      cross join lateral (
        -- Blanks of spaces only join words; all others separate phrases.
        select coalesce(pg_catalog.jsonb_agg(case when p.tokid = 12 then null
            else pg_catalog.jsonb_build_array(p.token, coalesce((ts_lexize('pg_catalog.english_stem',
              lower(p.token)))[1], '')) end
          order by p.n) filter (where p.tokid <> 12 or btrim(p.token, ' -') <> ''), '[]') as words
        from ts_parse('default', u.content) with ordinality p (tokid, token, n)
        -- Parts of a compound follow the whole; tags and entities are not words.
        where p.tokid not in (9, 10, 11, 13, 14)
      ) w), '[]'),
    'corpus', (
      select pg_catalog.jsonb_build_object('units', count(*), 'groups',
        count(distinct coalesce(u.conversation_id::pg_catalog.text, u.created_at::pg_catalog.date::pg_catalog.text)))
      from rollcall.atomic_chat_units u where u.user_id = v_me and u.state = 'active'),
    'topics', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', t.id, 'slug', t.slug, 'label', t.label, 'aliases',
        t.aliases))
      from rollcall.topic_profiles t where t.user_id = v_me), '[]'),
    'entities', coalesce((
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', e.id, 'slug', e.slug, 'name', e.name, 'aliases',
        e.aliases,
        'entity_type', e.entity_type, 'facts', e.facts, 'relationship', e.relationship))
      from rollcall.entity_profiles e where e.user_id = v_me), '[]'));
end
$$;
comment on function rollcall.roll_up_sources is
  'What a roll-up of the caller works on: unprocessed units with their words, and existing profiles.';
grant execute on function rollcall.roll_up_sources to authenticated, service_role;

-- For each phrase the ids of at most p_limit units, and how many groups they are in; a group is a conversation or,
-- without one, a day.
-- Definer: for the index, see match_words; answers for auth.uid() only.
create function rollcall.my_phrases(p_phrases text[], p_limit int)
  returns table (phrase text, unit_ids uuid[], units bigint, groups bigint)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    select p.phrase, (array_agg(u.id order by u.created_at desc))[1:p_limit], count(u.id),
      count(distinct coalesce(u.conversation_id::text, u.created_at::date::text))
    from unnest(p_phrases) p (phrase)
    join rollcall.atomic_chat_units u on u.user_id = v_me and u.state = 'active'
      and u.search @@ phraseto_tsquery('pg_catalog.english', p.phrase)
    group by p.phrase;
end
$$;
comment on function rollcall.my_phrases is 'Where phrases occur in the callers active units.';
grant execute on function rollcall.my_phrases to authenticated, service_role;

-- p_found:
-- {"units": [processed ids],
--  "topics": [{"slug", "label", "aliases", "domain", "unit_ids", "relevances"}],
--  "entities": [{"slug", "name", "aliases", "entity_type", "relationship", "sentiment", "facts", "unit_ids"}]}.
-- Existing profiles gain aliases, units and facts and lose nothing; what the user set (label, domain, relationship)
-- stays. Counts and times come from all units that a profile is linked to.
-- Definer: writes counts that users may only read; every row is checked to belong to p_user.
-- Over 60 lines: profiles, links, counts and units are written under one lease.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.apply_roll_up(p_user uuid, p_lease uuid, p_found jsonb) returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_topics_created bigint;
  v_topics_updated bigint;
  v_entities_created bigint;
  v_entities_updated bigint;
  v_processed bigint;
  v_topics pg_catalog.uuid[];
  v_entities pg_catalog.uuid[];
begin
  perform from rollcall_internal.roll_ups r
  where r.user_id = p_user and r.lease = p_lease and r.lease_expires_at > clock_timestamp() for update;
  if not found then
    return null;
  end if;

  with found as (
    select * from pg_catalog.jsonb_to_recordset(p_found -> 'topics')
      as x (slug pg_catalog.text, label pg_catalog.text, aliases pg_catalog.text[], domain rollcall.topic_domain,
        unit_ids pg_catalog.uuid[], relevances real[])
  ),
  merged as (
    insert into rollcall.topic_profiles as t (user_id, slug, label, aliases, domain)
    select p_user, f.slug, f.label, f.aliases[1:50], f.domain from found f
    on conflict (user_id, slug) do update set
      aliases = (select coalesce(pg_catalog.array_agg(a order by n), '{}') from (
        select a, min(n) as n from pg_catalog.unnest(t.aliases || excluded.aliases) with ordinality z (a, n)
        where lower(a) <> lower(t.label) group by a order by min(n) limit 50) z),
      domain = coalesce(t.domain, excluded.domain),
      dirty = false
    returning t.id, t.slug, t.xmax = 0 as is_new
  ),
  linked as (
    insert into rollcall.topic_units (topic_id, unit_id, user_id, relevance)
    select m.id, u.id, p_user, max(greatest(0, least(1, coalesce(l.relevance, 0.5))))
    from found f join merged m using (slug)
    cross join lateral unnest(f.unit_ids, f.relevances) l (unit_id, relevance)
    join rollcall.atomic_chat_units u on u.id = l.unit_id and u.user_id = p_user
    group by m.id, u.id
    on conflict (topic_id, unit_id) do update set relevance = excluded.relevance
      where rollcall.topic_units.relevance < excluded.relevance
  )
  select count(*) filter (where m.is_new), count(*) filter (where not m.is_new), coalesce(pg_catalog.array_agg(m.id),
    '{}')
    into v_topics_created, v_topics_updated, v_topics from merged m;
  v_topics := v_topics || array(select t.id from rollcall.topic_profiles t where t.user_id = p_user and t.dirty);

  with found as (
    select * from pg_catalog.jsonb_to_recordset(p_found -> 'entities')
      as x (slug pg_catalog.text, name pg_catalog.text, aliases pg_catalog.text[], entity_type rollcall.entity_type,
        relationship pg_catalog.text, sentiment real, facts pg_catalog.jsonb, unit_ids pg_catalog.uuid[])
  ),
  merged as (
    insert into rollcall.entity_profiles as e (user_id, slug, name, aliases, entity_type, relationship, sentiment,
      facts)
    select p_user, f.slug, f.name, f.aliases[1:50], f.entity_type, f.relationship, coalesce(f.sentiment, 0),
      coalesce(f.facts, '[]')
    from found f
    on conflict (user_id, slug) do update set
      aliases = (select coalesce(pg_catalog.array_agg(a order by n), '{}') from (
        select a, min(n) as n from pg_catalog.unnest(e.aliases || excluded.aliases) with ordinality z (a, n)
        where lower(a) <> lower(e.name) group by a order by min(n) limit 50) z),
      relationship = coalesce(e.relationship, excluded.relationship),
      sentiment = (e.sentiment + excluded.sentiment) / 2,
      -- Each fact once, the twenty with the highest confidence.
      facts = (select coalesce(pg_catalog.jsonb_agg(z.f order by (z.f ->> 'confidence')::real desc), '[]') from (
        select distinct on (f ->> 'fact') f from jsonb_array_elements(e.facts || excluded.facts) f
        where jsonb_typeof(f) = 'object' and f ? 'fact' and jsonb_typeof(f -> 'confidence') = 'number'
        order by f ->> 'fact', (f ->> 'confidence')::real desc limit 20) z)
    returning e.id, e.slug, e.xmax = 0 as is_new
  ),
  linked as (
    insert into rollcall.entity_units (entity_id, unit_id, user_id)
    select distinct m.id, u.id, p_user
    from found f join merged m using (slug) cross join lateral pg_catalog.unnest(f.unit_ids) l (unit_id)
    join rollcall.atomic_chat_units u on u.id = l.unit_id and u.user_id = p_user
    on conflict (entity_id, unit_id) do nothing
  )
  select count(*) filter (where m.is_new), count(*) filter (where not m.is_new), coalesce(pg_catalog.array_agg(m.id),
    '{}')
    into v_entities_created, v_entities_updated, v_entities from merged m;

  -- Counts, times and importance. Importance never decreases here.
  update rollcall.topic_profiles t set
    unit_count = c.units, token_count = c.tokens, conversation_count = c.conversations, message_count = c.messages,
    first_engaged_at = c.first_at, last_engaged_at = c.last_at, streak_days = c.streak, peak_hour = c.peak_hour,
    importance = greatest(t.importance, least(1, 0.5 + least(0.3, 0.01 * c.units)
      + 0.15 * c.recent / greatest(1, c.units)
      + case t.domain when 'engineering' then 0.1 when 'business' then 0.05 else 0 end))::real,
    proficiency = case
      when c.units >= 60 and c.days >= 20 then 'expert'
      when c.units >= 30 and c.days >= 8 then 'advanced'
      when c.units >= 12 then 'intermediate'
      when c.units >= 5 then 'beginner'
      else 'unknown' end::rollcall.proficiency,
    proficiency_signals = pg_catalog.jsonb_build_object('units', c.units, 'days', c.days, 'questions', c.questions),
    version = t.version + 1, dirty = false
  from (
    select l.topic_id, count(*) as units, coalesce(sum(coalesce(u.token_count, length(u.content) / 4)), 0) as tokens,
      count(distinct u.conversation_id) as conversations, count(distinct u.message_id) as messages,
      min(u.created_at) as first_at, max(u.created_at) as last_at,
      count(*) filter (where u.created_at > now() - interval '7 days') as recent,
      count(distinct u.created_at::pg_catalog.date) as days,
      count(*) filter (where u.content ~ '\?\s*$') as questions,
      mode() within group (order by extract(hour from u.created_at)::int) as peak_hour,
      -- Consecutive days up to the last one.
      (select count(*) from (
        select d.day, max(d.day) over () - d.day as back, row_number() over (order by d.day desc) - 1 as n
        from (select distinct u2.created_at::pg_catalog.date as day from rollcall.topic_units l2
          join rollcall.atomic_chat_units u2 on u2.id = l2.unit_id
          where l2.topic_id = l.topic_id and u2.state = 'active') d) s where s.back = s.n) as streak
    from rollcall.topic_units l join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active'
    where l.topic_id = any (v_topics)
    group by l.topic_id
  ) c
  where t.id = c.topic_id and t.user_id = p_user;

  update rollcall.entity_profiles e set
    mention_count = c.units, conversation_count = c.conversations, first_mentioned_at = c.first_at,
    last_mentioned_at = c.last_at,
    importance = greatest(e.importance, least(1, 0.5 + least(0.2, 0.02 * c.units)
      + case when c.conversations > 1 then 0.1 else 0 end))::real,
    version = e.version + 1, dirty = false
  from (
    select l.entity_id, count(*) as units, count(distinct u.conversation_id) as conversations,
      min(u.created_at) as first_at, max(u.created_at) as last_at
    from rollcall.entity_units l join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active'
    where l.entity_id = any (v_entities)
    group by l.entity_id
  ) c
  where e.id = c.entity_id and e.user_id = p_user;

  -- The relevance of a topic is its share of the conversation's units.
  insert into rollcall.topic_conversations (topic_id, conversation_id, user_id, relevance, last_seen_at)
  select l.topic_id, u.conversation_id, p_user,
    least(1, count(*)::real / greatest(1, (select count(*) from rollcall.atomic_chat_units o
      where o.conversation_id = u.conversation_id and o.user_id = p_user and o.state = 'active')))::real,
    max(u.created_at)
  from rollcall.topic_units l
  join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active' and u.conversation_id is not null
  where l.topic_id = any (v_topics)
  group by l.topic_id, u.conversation_id
  on conflict (topic_id, conversation_id) do update set relevance = excluded.relevance,
    last_seen_at = excluded.last_seen_at
    where (rollcall.topic_conversations.relevance, rollcall.topic_conversations.last_seen_at)
      is distinct from (excluded.relevance, excluded.last_seen_at);

  insert into rollcall.entity_conversations (entity_id, conversation_id, user_id, mentions)
  select l.entity_id, u.conversation_id, p_user, count(*)
  from rollcall.entity_units l
  join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active' and u.conversation_id is not null
  where l.entity_id = any (v_entities)
  group by l.entity_id, u.conversation_id
  on conflict (entity_id, conversation_id) do update set mentions = excluded.mentions
    where rollcall.entity_conversations.mentions <> excluded.mentions;

  update rollcall.atomic_chat_units u set processed_at = clock_timestamp()
  where u.user_id = p_user and u.processed_at is null
    and u.id in (select (x #>> '{}')::pg_catalog.uuid from jsonb_array_elements(p_found -> 'units') x);
  get diagnostics v_processed = row_count;

  return pg_catalog.jsonb_build_object('topicsCreated', v_topics_created, 'topicsUpdated', v_topics_updated,
    'entitiesCreated', v_entities_created, 'entitiesUpdated', v_entities_updated, 'acusProcessed', v_processed);
end
$$;
comment on function rollcall_internal.apply_roll_up is 'Writes the result of a roll-up; null where its lease was lost.';

-- schemas/92_memory.sql ----------------------------------------------------------------------------------------------

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

-- schemas/99_context_finish.sql --------------------------------------------------------------------------------------

-- Rights of functions, and what depends on everything before: followed tables and recorded state.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

do $$
begin
  perform rollcall.watch_authorization_sources(), rollcall.watch_visibility_sources();
  perform rollcall_internal.record_triggers();
end
$$;

insert into rollcall_internal.context_access_version (version) values (rollcall.context_access_version());

-- Records itself, whichever tool applies it.
insert into rollcall.schema_migrations (version, name) values ('20261128000002', 'context');
