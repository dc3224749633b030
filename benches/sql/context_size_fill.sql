-- One user with :units units, :topics topics, 300 entities, 5,000 memories and 200 conversations of 40 messages. The frequency of words
-- falls with their rank as in natural text. 300 questions about the units.
select setseed(0.5);
create schema bench;
create table bench.words as
  select n, string_agg(substr('bcdfghjklmnprstvz', 1 + b.c % 17, 1) || substr('aeiou', 1 + b.v % 5, 1), '' order by p) as word
  from generate_series(0, 19999) n, generate_series(1, 4) p
  cross join lateral (select get_byte(decode(md5(n || ':' || p), 'hex'), 0) as c, get_byte(decode(md5(n || ':' || p), 'hex'), 1) as v) b
  where p <= 2 + n % 3
  group by n;
analyze bench.words;
create function bench.me() returns uuid language sql immutable as $$ select 'a0000000-0000-4000-8000-000000000001'::uuid $$;
-- Texts 1 to p_count, of p_min words or some more.
create function bench.texts(p_count int, p_min int, p_more int) returns table (n int, content text) language sql volatile as $$
  select r.n, string_agg(w.word, ' ')
  from (
    select n, floor(20000 * random() ^ 3)::int as word from generate_series(1, p_count) n, generate_series(1, p_min + n % (p_more + 1))
  ) r join bench.words w on w.n = r.word
  group by r.n
$$;

-- Built once, which is faster than row by row.
create table bench.indexes as
  select schemaname, indexname, indexdef from pg_indexes
  where tablename in ('atomic_chat_units', 'memories') and indexdef like '%using gin%' or indexdef like '%USING gin%' and schemaname = 'rollcall';
select format('drop index %I.%I', schemaname, indexname) from bench.indexes \gexec
set session_replication_role = replica;
insert into rollcall.conversations (id, title, created_by)
  select md5('c' || n)::uuid, 'Talk ' || n, bench.me() from generate_series(1, 200) n;
insert into rollcall.conversation_participants (conversation_id, user_id)
  select md5('c' || n)::uuid, bench.me() from generate_series(1, 200) n;
insert into rollcall.messages (conversation_id, user_id, role, content, token_count, message_index)
  select md5('c' || (1 + n % 200))::uuid, bench.me(), (array['user', 'assistant'])[1 + n / 200 % 2]::rollcall.message_role, content, 60, n
  from bench.texts(8000, 25, 20);
insert into rollcall.topic_profiles (id, user_id, slug, label, importance, last_engaged_at, streak_days)
  select md5('t' || n)::uuid, bench.me(), 't' || n, content, 0.5 + 0.0004 * n, now() - n * interval '1 hour', n % 5
  from bench.texts(:topics, 1, 1);
insert into rollcall.entity_profiles (id, user_id, slug, name, entity_type, last_mentioned_at)
  select md5('e' || n)::uuid, bench.me(), 'e' || n, initcap(content), 'person', now() - n * interval '1 hour' from bench.texts(300, 2, 0);
insert into rollcall.atomic_chat_units (id, user_id, conversation_id, content, quality, processed_at, is_learned, created_at)
  select md5('u' || n)::uuid, bench.me(), md5('c' || (1 + n % 200))::uuid, content, 0.1 * (n % 10), now(), n % 3 = 0,
    now() - n * interval '5 minutes'
  from bench.texts(:units, 10, 14);
insert into rollcall.topic_units (topic_id, unit_id, user_id, relevance)
  select md5('t' || (1 + n % :topics))::uuid, md5('u' || n)::uuid, bench.me(), 0.5 from generate_series(1, :units, 2) n;
insert into rollcall.entity_units (entity_id, unit_id, user_id)
  select md5('e' || (1 + n % 300))::uuid, md5('u' || n)::uuid, bench.me() from generate_series(1, :units, 5) n;
insert into rollcall.topic_conversations (topic_id, conversation_id, user_id, relevance)
  select md5('t' || n)::uuid, md5('c' || (1 + (n + k) % 200))::uuid, bench.me(), 0.1 * k from generate_series(1, :topics) n, generate_series(1, 2) k;
insert into rollcall.memories (id, user_id, content, category, importance)
  select md5('m' || n)::uuid, bench.me(), content, (array['general', 'identity', 'preference', 'fact'])[1 + n % 4], 0.1 * (n % 10)
  from bench.texts(5000, 8, 5);
reset session_replication_role;
select indexdef from bench.indexes \gexec

-- Words of a unit, and others.
create table bench.questions as
  select t.n, (select string_agg(w, ' ') from (select w from regexp_split_to_table(u.content, ' ') w limit 3 + t.n % 4) x) || ' ' || t.content || '?' as text
  from bench.texts(300, 2, 2) t join rollcall.atomic_chat_units u on u.id = md5('u' || (1 + t.n * 331 % :units))::uuid;
create index on bench.questions (n);
-- What the workers compile ahead.
insert into rollcall.context_bundles (user_id, bundle_type, topic_id, entity_id, conversation_id, content, token_count, compiled_at,
  compiled_seeing, access_version, expires_at)
select bench.me(), s.type, s.topic, s.entity, s.conversation, repeat('word ', 300), 300, now(), pg_current_snapshot(),
  rollcall.context_access_version(), now() + interval '1 day'
from (
  select 'topic'::rollcall.bundle_type as type, id as topic, null::uuid as entity, null::uuid as conversation from rollcall.topic_profiles
  union all
  select 'entity', null, id, null from rollcall.entity_profiles
  union all
  select 'conversation', null, null, id from rollcall.conversations
  union all
  select t, null, null, null from unnest('{identity_core,global_prefs}'::rollcall.bundle_type[]) t
) s;
update rollcall_internal.context_source_changes set seen_at = clock_timestamp();
grant usage on schema bench to authenticated;
grant select on all tables in schema bench to authenticated;
vacuum analyze;
