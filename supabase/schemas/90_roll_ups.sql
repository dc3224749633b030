-- Module: context
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
