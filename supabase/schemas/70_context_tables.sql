-- Module: context
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
