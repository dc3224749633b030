-- Creates one user ($1) with 10,000 units, 1,000 memories, 120 topics, 77 entities, 100 conversations of 30 messages and
-- a device, and 300 others with 20 topics and 5 conversations each. Words are generated; some occur in many units.
create function pg_temp.word(n int) returns text language sql immutable as $$
  select ('{alpha,bravo,cargo,delta,ember,fjord,glint,haven,ivory,jolt,karma,lumen,mango,noble,ocean,pivot,quartz,raven,sable,torch,umber,vivid,willow,xenon,yonder,zephyr}'::text[])[1 + n % 26]
    || chr(97 + n / 26 % 26) || chr(97 + n / 7 % 26)
$$;

insert into rollcall.conversations (id, title, created_by)
  select md5('c' || n)::uuid, 'Talk ' || n, $1 from generate_series(1, 100) n;
insert into rollcall.conversation_participants (conversation_id, user_id)
  select md5('c' || n)::uuid, $1 from generate_series(1, 100) n;
insert into rollcall.messages (conversation_id, user_id, role, content, token_count)
  select md5('c' || (1 + n % 100))::uuid, $1, (array['user', 'assistant'])[1 + n / 100 % 2]::rollcall.message_role,
    (select string_agg(pg_temp.word((n * 37 + k * 101) % 3000), ' ') from generate_series(1, 25) k), 40
  from generate_series(0, 2999) n;
insert into rollcall.topic_profiles (id, user_id, slug, label, importance, last_engaged_at, streak_days)
  select md5('t' || n)::uuid, $1, 't' || n, pg_temp.word(n) || ' ' || pg_temp.word(500 + n), 0.9, now(), n % 5 from generate_series(1, 120) n;
insert into rollcall.entity_profiles (id, user_id, slug, name, entity_type, last_mentioned_at)
  select md5('e' || n)::uuid, $1, 'e' || n, initcap(pg_temp.word(1000 + n)) || ' ' || initcap(pg_temp.word(1500 + n)), 'person', now()
  from generate_series(1, 77) n;
insert into rollcall.atomic_chat_units (id, user_id, conversation_id, content, quality, processed_at)
  select md5('u' || n)::uuid, $1, md5('c' || (1 + n % 100))::uuid,
    (select string_agg(pg_temp.word((n * 7919 + k * 104729) % 3000), ' ') from generate_series(1, 12) k)
      || ' ' || pg_temp.word(1 + n % 120) || ' ' || pg_temp.word(501 + n % 120) || ' ' || pg_temp.word(1001 + n % 77), 0.1 * (n % 10), now()
  from generate_series(1, 10000) n;
insert into rollcall.topic_units (topic_id, unit_id, user_id)
  select md5('t' || (1 + n % 120))::uuid, md5('u' || n)::uuid, $1 from generate_series(1, 10000) n;
insert into rollcall.entity_units (entity_id, unit_id, user_id)
  select md5('e' || (1 + n % 77))::uuid, md5('u' || n)::uuid, $1 from generate_series(1, 10000) n where n % 2 = 0;
insert into rollcall.topic_conversations (topic_id, conversation_id, user_id, relevance)
  select md5('t' || n)::uuid, md5('c' || (1 + (n + k) % 100))::uuid, $1, 0.1 * k from generate_series(1, 120) n, generate_series(1, 3) k;
insert into rollcall.memories (id, user_id, content, category, importance)
  select md5('m' || n)::uuid, $1, (select string_agg(pg_temp.word((n * 31 + k * 211) % 3000), ' ') from generate_series(1, 8) k),
    (array['general', 'identity', 'preference', 'fact'])[1 + n % 4], 0.1 * (n % 10)
  from generate_series(1, 1000) n;
insert into rollcall.presence_devices (user_id, device_id, local_time, active_conversation_id, visible_conversation_ids)
  values ($1, 'web', '14:30', md5('c1')::uuid, array[md5('c2')::uuid, md5('c3')::uuid, md5('c4')::uuid]);

insert into rollcall.topic_profiles (user_id, slug, label)
  select md5('o' || u)::uuid, 't' || n, 'other' || n || ' topic' || u % 7 from generate_series(1, 300) u, generate_series(1, 20) n;
insert into rollcall.conversations (id, title, created_by)
  select md5('oc' || u || '-' || n)::uuid, 'Other ' || n, md5('o' || u)::uuid from generate_series(1, 300) u, generate_series(1, 5) n;
insert into rollcall.conversation_participants (conversation_id, user_id)
  select c.id, c.created_by from rollcall.conversations c where c.title like 'Other %';
insert into rollcall.context_bundles (user_id, bundle_type, topic_id, content, token_count, compiled_at, compiled_seeing, access_version, expires_at)
  select t.user_id, 'topic', t.id, repeat('word ', 400), 400, now(), pg_current_snapshot(), rollcall.context_access_version(), now() + interval '4 hours'
  from rollcall.topic_profiles t where t.user_id <> $1;
insert into rollcall.context_bundles (user_id, bundle_type, conversation_id, content, token_count, compiled_at, compiled_seeing, access_version, expires_at)
  select c.created_by, 'conversation', c.id, repeat('word ', 400), 400, now(), pg_current_snapshot(), rollcall.context_access_version(), now() + interval '30 minutes'
  from rollcall.conversations c where c.title like 'Other %';
update rollcall_internal.context_source_changes set seen_at = clock_timestamp();
drop function pg_temp.word;
