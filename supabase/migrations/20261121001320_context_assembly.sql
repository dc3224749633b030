-- Reading for the context engine: the sources of a bundle, what a message is about, and everything that one answer
-- needs, in one call each.
-- Invariant: all of it runs as the caller, so row-level security judges every row that goes into a prompt. The two
-- functions that search are definer, because a policy keeps PostgreSQL from using an index for @@; they return ids
-- alone, of the caller's own rows, and whoever uses them reads the rows under the policies.

-- The caller's units that a text is about, best first. A word counts the more the rarer it is among the caller's
-- units, and at most three hundred units a word are looked at; the score is what was found of the weight of the text's
-- five weightiest words, from 0 to 1.
-- Definer: for the index; answers for auth.uid() only.
create function rollcall.match_units(p_text text, p_limit int) returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = '' rows 30
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with words as (
      select l.lexeme from unnest(to_tsvector('pg_catalog.english', left(p_text, 8000))) l
      order by length(l.lexeme) desc, l.lexeme limit 16
    ),
    found as (
      select w.lexeme, u.id
      from words w
      cross join lateral (
        select u.id from public.atomic_chat_units u
        where u.user_id = v_me and u.state = 'active'
          and u.search @@ plainto_tsquery('pg_catalog.simple', w.lexeme)
        limit 300
      ) u
    ),
    weighed as (
      select f.lexeme, ln(1 + 1000.0 / count(*)) as weight from found f group by f.lexeme
    ),
    whole as (
      select greatest(sum(h.weight), ln(1 + 1000.0 / 5)) as weight
      from (select w.weight from weighed w order by w.weight desc limit 5) h
    )
    select f.id, least(1, sum(w.weight) / max(whole.weight))::real
    from found f join weighed w using (lexeme) cross join whole
    group by f.id
    order by 2 desc, f.id
    limit p_limit;
end
$$;
comment on function rollcall.match_units is 'The caller''s units that a text is about, best first, with a score from 0 to 1.';
grant execute on function rollcall.match_units to authenticated, service_role;

-- The same of the caller's memories. Definer: see match_units.
create function rollcall.match_memories(p_text text, p_limit int) returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = '' rows 10
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with words as (
      select l.lexeme from unnest(to_tsvector('pg_catalog.english', left(p_text, 8000))) l
      order by length(l.lexeme) desc, l.lexeme limit 16
    ),
    found as (
      select w.lexeme, m.id
      from words w
      cross join lateral (
        select m.id from public.memories m
        where m.user_id = v_me and m.is_active and m.search @@ plainto_tsquery('pg_catalog.simple', w.lexeme)
        limit 300
      ) m
    ),
    weighed as (
      select f.lexeme, ln(1 + 1000.0 / count(*)) as weight from found f group by f.lexeme
    ),
    whole as (
      select greatest(sum(h.weight), ln(1 + 1000.0 / 5)) as weight
      from (select w.weight from weighed w order by w.weight desc limit 5) h
    )
    select f.id, least(1, sum(w.weight) / max(whole.weight))::real
    from found f join weighed w using (lexeme) cross join whole
    group by f.id
    order by 2 desc, f.id
    limit p_limit;
end
$$;
comment on function rollcall.match_memories is 'The caller''s memories that a text is about, best first, with a score from 0 to 1.';
grant execute on function rollcall.match_memories to authenticated, service_role;

-- What a bundle is compiled from, as the caller may see it; null where there is nothing such (any more).
-- What is chosen here has to be in bundles_touched, or a change of it would leave the bundle looking fresh.
-- Invoker: row-level security decides what goes in.
create function rollcall.bundle_sources(
  p_type public.bundle_type, p_topic uuid default null, p_entity uuid default null, p_conversation uuid default null
) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_sources jsonb;
begin
  case p_type
    when 'identity_core' then
      select jsonb_build_object('memories', coalesce(jsonb_agg(
          jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category) order by m.importance desc, m.created_at, m.id), '[]'))
        into v_sources
      from (
        select * from public.memories m
        where m.user_id = v_me and m.is_active and m.category in ('biography', 'identity', 'role')
          and m.importance >= 0.8::real
        order by m.importance desc, m.created_at, m.id limit 15
      ) m;

    when 'global_prefs' then
      select jsonb_build_object(
        'instructions', coalesce((
          select jsonb_agg(jsonb_build_object('id', i.id, 'content', i.content) order by i.priority desc, i.created_at, i.id)
          from (
            select * from public.custom_instructions i
            where i.user_id = v_me and i.is_active and i.scope = 'global'
            order by i.priority desc, i.created_at, i.id limit 10
          ) i), '[]'),
        'memories', coalesce((
          select jsonb_agg(jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category)
            order by m.importance desc, m.created_at, m.id)
          from (
            select * from public.memories m
            where m.user_id = v_me and m.is_active and m.category = 'preference' and m.importance >= 0.6::real
            order by m.importance desc, m.created_at, m.id limit 10
          ) m), '[]'))
        into v_sources;

    when 'topic' then
      select jsonb_build_object(
        'topic', jsonb_build_object('label', t.label, 'aliases', t.aliases, 'domain', t.domain,
          'proficiency', t.proficiency, 'units', t.unit_count, 'conversations', t.conversation_count,
          'messages', t.message_count, 'last_engaged', t.last_engaged_at::date, 'streak_days', t.streak_days,
          'importance', t.importance),
        'instructions', coalesce((
          select jsonb_agg(jsonb_build_object('id', i.id, 'content', i.content) order by i.priority desc, i.created_at, i.id)
          from public.custom_instructions i
          where i.topic_id = t.id and i.user_id = v_me and i.is_active), '[]'),
        'memories', coalesce((
          select jsonb_agg(jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category)
            order by m.importance desc, m.created_at, m.id)
          from (
            select * from public.memories m
            where m.user_id = v_me and m.is_active and m.search @@ t.query
            order by m.importance desc, m.created_at, m.id limit 5
          ) m), '[]'),
        'conversations', coalesce((
          select jsonb_agg(jsonb_build_object('id', c.id, 'title', c.title) order by c.relevance desc, c.id)
          from (
            select c.id, c.title, l.relevance
            from public.topic_conversations l join public.conversations c on c.id = l.conversation_id
            where l.topic_id = t.id and c.title is not null
            order by l.relevance desc, c.id limit 5
          ) c), '[]'),
        'units', coalesce((
          select jsonb_agg(jsonb_build_object('id', u.id, 'content', u.content) order by u.worth desc, u.created_at desc, u.id)
          from (
            select u.id, u.content, u.created_at, l.relevance * u.quality as worth
            from public.topic_units l join public.atomic_chat_units u on u.id = l.unit_id
            where l.topic_id = t.id and u.state = 'active'
            order by worth desc, u.created_at desc, u.id limit 10
          ) u), '[]'))
        into v_sources
      from public.topic_profiles t where t.id = p_topic and t.user_id = v_me;

    when 'entity' then
      select jsonb_build_object(
        'entity', jsonb_build_object('name', e.name, 'type', e.entity_type, 'aliases', e.aliases,
          'relationship', e.relationship, 'sentiment', e.sentiment, 'facts', e.facts, 'mentions', e.mention_count,
          'conversations', e.conversation_count, 'last_mentioned', e.last_mentioned_at::date, 'importance', e.importance),
        'units', coalesce((
          select jsonb_agg(jsonb_build_object('id', u.id, 'content', u.content) order by u.quality desc, u.created_at desc, u.id)
          from (
            select u.id, u.content, u.quality, u.created_at
            from public.entity_units l join public.atomic_chat_units u on u.id = l.unit_id
            where l.entity_id = e.id and u.state = 'active'
            order by u.quality desc, u.created_at desc, u.id limit 8
          ) u), '[]'))
        into v_sources
      from public.entity_profiles e where e.id = p_entity and e.user_id = v_me;

    when 'conversation' then
      select jsonb_build_object(
        'conversation', jsonb_build_object('id', c.id, 'title', c.title, 'started', c.created_at::date),
        'count', (select count(*) from public.messages m where m.conversation_id = c.id and m.state in ('complete', 'partial')),
        'topics', coalesce((
          select jsonb_agg(jsonb_build_object('id', t.id, 'label', t.label) order by t.relevance desc, t.id)
          from (
            select t.id, t.label, l.relevance
            from public.topic_conversations l join public.topic_profiles t on t.id = l.topic_id
            where l.conversation_id = c.id and l.user_id = v_me
            order by l.relevance desc, t.id limit 5
          ) t), '[]'),
        -- A long conversation is told by its beginning and its end.
        'messages', coalesce((
          select jsonb_agg(jsonb_build_object('role', m.role, 'content', left(m.content, 4000), 'mine', m.user_id = v_me)
            order by m.message_index)
          from (
            (select * from public.messages m
              where m.conversation_id = c.id and m.state in ('complete', 'partial')
              order by m.message_index limit 4)
            union
            (select * from public.messages m
              where m.conversation_id = c.id and m.state in ('complete', 'partial')
              order by m.message_index desc limit 150)
          ) m), '[]'))
        into v_sources
      from public.conversations c where c.id = p_conversation;
    else
      v_sources := null;
  end case;
  return v_sources;
end
$$;
comment on function rollcall.bundle_sources is 'What a bundle is compiled from, as the caller may see it.';
grant execute on function rollcall.bundle_sources to authenticated, service_role;

-- The caller's bundles about some things: each one's content where it is fresh, else its sources and why not.
-- $1: [{"type", "ref" of topic, entity or conversation}]; p_force treats all as not fresh. In the order of the list.
-- One statement sees one snapshot, so what is called fresh here is as new as everything else in the answer.
-- Invoker: see bundle_sources.
create function rollcall.wanted_bundles(p_wanted jsonb, p_force boolean default false) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_item jsonb;
  v_type public.bundle_type;
  v_ref uuid;
  v_bundle public.context_bundles;
  v_reason text;
  v_all jsonb := '[]';
begin
  for v_item in select w from jsonb_array_elements(p_wanted) with ordinality a (w, n) order by n loop
    v_type := (v_item ->> 'type')::public.bundle_type;
    v_ref := (v_item ->> 'ref')::uuid;
    v_bundle := null;
    case v_type
      when 'topic' then
        select * into v_bundle from public.context_bundles b
        where b.topic_id = v_ref and b.user_id = v_me and b.persona_id is null;
      when 'entity' then
        select * into v_bundle from public.context_bundles b
        where b.entity_id = v_ref and b.user_id = v_me and b.persona_id is null;
      when 'conversation' then
        select * into v_bundle from public.context_bundles b
        where b.conversation_id = v_ref and b.user_id = v_me and b.persona_id is null;
      else
        select * into v_bundle from public.context_bundles b
        where b.user_id = v_me and b.bundle_type = v_type and b.persona_id is null
          and b.topic_id is null and b.entity_id is null and b.conversation_id is null;
    end case;
    v_reason := case
      when v_bundle.id is null then 'missing'
      when p_force then 'forced'
      when v_bundle.dirty then 'dirty'
      when v_bundle.expires_at <= clock_timestamp() then 'expired'
      when not rollcall.my_bundle_is_fresh(v_bundle.id) then 'dirty'
      else 'fresh' end;
    v_all := v_all || jsonb_build_array(jsonb_build_object('type', v_type, 'ref', v_ref, 'reason', v_reason, 'id', v_bundle.id)
      || case when v_reason = 'fresh' then jsonb_build_object('content', v_bundle.content, 'tokens', v_bundle.token_count,
          'version', v_bundle.version, 'unit_ids', v_bundle.unit_ids, 'memory_ids', v_bundle.memory_ids,
          'compiled_at', v_bundle.compiled_at)
        else jsonb_build_object('sources', case v_type
          when 'topic' then rollcall.bundle_sources('topic', p_topic => v_ref)
          when 'entity' then rollcall.bundle_sources('entity', p_entity => v_ref)
          when 'conversation' then rollcall.bundle_sources('conversation', p_conversation => v_ref)
          else rollcall.bundle_sources(v_type) end)
        end);
  end loop;
  return v_all;
end
$$;
comment on function rollcall.wanted_bundles is
  'The caller''s bundles about some things: the content of fresh ones, the sources of the others.';
grant execute on function rollcall.wanted_bundles to authenticated, service_role;

-- The caller's topics and entities that a message is about: those of its conversation, those that it names (also with
-- a slip of the pen), and those of the units that match it. Each with a score from 0 to 1 and the reason.
-- Each matched unit is looked up by its key (hence the `offset 0`): the plan is made once, without knowing how few there are.
-- Invoker: the caller's own profiles under their policies.
create function rollcall.detect(p_conversation uuid, p_message text, p_units uuid[], p_scores real[])
  returns table (kind text, id uuid, name text, score real, reason text)
  language plpgsql stable security invoker set search_path = '' rows 10
as $$
declare
  v_me constant uuid := auth.uid();
  v_said constant tsvector := to_tsvector('pg_catalog.english', left(p_message, 20000));
  v_slips text[];
begin
  -- Any longer word may be a misspelt name.
  select array_agg(w.word) into v_slips from (
    select distinct lower(m[1]) as word from regexp_matches(left(p_message, 2000), '([[:alpha:]][[:alnum:]-]{4,30})', 'g') m
    limit 40
  ) w;
  return query
    with matched as (
      select * from unnest(p_units, p_scores) u (unit_id, score)
    ),
    whole as (select nullif(sum(m.score), 0) as score from matched m),
    hits as (
      select 'topic' as kind, l.topic_id as id, 0.5::real + l.relevance / 2 as score, 'conversation' as reason
      from public.topic_conversations l where l.conversation_id = p_conversation and l.user_id = v_me
      union all
      select 'topic', t.id, 1, 'named' from public.topic_profiles t where t.user_id = v_me and v_said @@ t.query
      union all
      select 'topic', l.topic_id, (sum(m.score) / max(w.score))::real, 'meaning'
      from matched m cross join whole w
      cross join lateral (select l.topic_id from public.topic_units l where l.unit_id = m.unit_id and l.user_id = v_me offset 0) l
      group by l.topic_id having sum(m.score) / max(w.score) >= 0.35
      union all
      select 'entity', l.entity_id, least(0.9, 0.4 + 0.1 * l.mentions)::real, 'conversation'
      from public.entity_conversations l where l.conversation_id = p_conversation and l.user_id = v_me
      union all
      select 'entity', e.id, 1, 'named' from public.entity_profiles e where e.user_id = v_me and v_said @@ e.query
      union all
      select 'entity', l.entity_id, (sum(m.score) / max(w.score))::real, 'meaning'
      from matched m cross join whole w
      cross join lateral (select l.entity_id from public.entity_units l where l.unit_id = m.unit_id and l.user_id = v_me offset 0) l
      group by l.entity_id having sum(m.score) / max(w.score) >= 0.40
      union all
      select s.kind, s.id, 0.8, 'misspelt'
      from (
        select 'topic' as kind, t.id, lower(n) as name from public.topic_profiles t, unnest(array[t.label] || t.aliases) n
        where t.user_id = v_me
        union all
        select 'entity', e.id, lower(n) from public.entity_profiles e, unnest(array[e.name] || e.aliases) n
        where e.user_id = v_me
      ) s
      join unnest(v_slips) slip on left(slip, 2) = left(s.name, 2) and slip <> s.name
        and length(slip) between length(s.name) - 1 and length(s.name) + 1
      where length(s.name) >= 5 and rollcall.likeness(slip, s.name) >= 0.5
    ),
    best as (
      select distinct on (h.kind, h.id) h.kind, h.id, h.score::real, h.reason
      from hits h order by h.kind, h.id, h.score desc
    )
    (select b.kind, b.id, t.label, b.score, b.reason
      from best b join public.topic_profiles t on b.kind = 'topic' and t.id = b.id
      order by b.score desc, t.importance desc, t.id limit 4)
    union all
    (select b.kind, b.id, e.name, b.score, b.reason
      from best b join public.entity_profiles e on b.kind = 'entity' and e.id = b.id
      order by b.score desc, e.importance desc, e.id limit 4);
end
$$;
comment on function rollcall.detect is 'The caller''s topics and entities that a message is about.';
grant execute on function rollcall.detect to authenticated, service_role;

-- Everything that the prompt for one message needs, in one snapshot; what was matched is looked up by key, as in detect. Null where the caller sees no such conversation.
-- Invoker: row-level security decides what goes in.
create function rollcall.assemble(p_conversation uuid, p_message text, p_history int) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_conversation jsonb;
  v_units uuid[];
  v_scores real[];
  v_detected jsonb;
  v_wanted jsonb;
begin
  select jsonb_build_object('id', c.id, 'title', c.title, 'messages', s.messages, 'tokens', s.tokens) into v_conversation
  from public.conversations c
  cross join lateral (
    select count(*) as messages, coalesce(sum(coalesce(m.token_count, length(m.content) / 4 + 1)), 0) as tokens
    from public.messages m where m.conversation_id = c.id and m.state in ('complete', 'partial')
  ) s
  where c.id = p_conversation;
  if v_conversation is null then
    return null;
  end if;

  select array_agg(m.id order by m.score desc, m.id), array_agg(m.score order by m.score desc, m.id)
    into v_units, v_scores from rollcall.match_units(p_message, 40) m;
  select coalesce(jsonb_agg(to_jsonb(d)), '[]') into v_detected
    from rollcall.detect(p_conversation, p_message, v_units[1:20], v_scores[1:20]) d;
  select jsonb_build_array(
      jsonb_build_object('type', 'identity_core'), jsonb_build_object('type', 'global_prefs'),
      jsonb_build_object('type', 'conversation', 'ref', p_conversation))
    || coalesce(jsonb_agg(jsonb_build_object('type', d ->> 'kind', 'ref', d ->> 'id')), '[]')
    into v_wanted from jsonb_array_elements(v_detected) d;

  return jsonb_build_object(
    'conversation', v_conversation,
    'detected', v_detected,
    'bundles', rollcall.wanted_bundles(v_wanted),
    'units', coalesce((
      select jsonb_agg(jsonb_build_object('id', u.id, 'content', u.content, 'score', m.score) order by m.score desc, u.id)
      from unnest(v_units, v_scores) m (id, score)
      cross join lateral (select * from public.atomic_chat_units u where u.id = m.id and u.state = 'active' offset 0) u), '[]'),
    'memories', coalesce((
      select jsonb_agg(jsonb_build_object('id', me.id, 'content', me.content, 'score', m.score) order by m.score desc, me.id)
      from rollcall.match_memories(p_message, 30) m
      cross join lateral (select * from public.memories me where me.id = m.id and me.is_active offset 0) me), '[]'),
    'history', coalesce((
      select jsonb_agg(jsonb_build_object('id', h.id, 'role', h.role, 'content', h.content, 'tokens', h.token_count,
          'mine', h.user_id = v_me) order by h.message_index)
      from (
        select * from public.messages m
        where m.conversation_id = p_conversation and m.state in ('complete', 'partial')
        order by m.message_index desc limit p_history
      ) h), '[]'),
    'paths', coalesce((
      select d.navigation_history from public.presence_devices d
      where d.user_id = v_me order by d.context_updated_at desc nulls last limit 1), '[]'),
    'seeing', pg_current_snapshot()::text,
    'read_at', clock_timestamp());
end
$$;
comment on function rollcall.assemble is 'Everything that the prompt for one message needs, as the caller may see it.';
grant execute on function rollcall.assemble to authenticated, service_role;

-- What the simple engine needs: instructions, the most important memories, the last messages. Null where the caller
-- sees no such conversation. It touches none of the tables that the other engine's compilations depend on.
-- Invoker: row-level security decides what goes in.
create function rollcall.assemble_simply(p_conversation uuid, p_history int) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
begin
  if not exists (select from public.conversations c where c.id = p_conversation) then
    return null;
  end if;
  return jsonb_build_object(
    'instructions', coalesce((
      select jsonb_agg(i.content order by i.priority desc, i.created_at, i.id)
      from (
        select * from public.custom_instructions i
        where i.user_id = v_me and i.is_active and i.scope = 'global'
        order by i.priority desc, i.created_at, i.id limit 10
      ) i), '[]'),
    'memories', coalesce((
      select jsonb_agg(m.content order by m.importance desc, m.created_at, m.id)
      from (
        select * from public.memories m
        where m.user_id = v_me and m.is_active
        order by m.importance desc, m.created_at, m.id limit 10
      ) m), '[]'),
    'history', coalesce((
      select jsonb_agg(jsonb_build_object('id', h.id, 'role', h.role, 'content', h.content, 'tokens', h.token_count,
          'mine', h.user_id = v_me) order by h.message_index)
      from (
        select * from public.messages m
        where m.conversation_id = p_conversation and m.state in ('complete', 'partial')
        order by m.message_index desc limit p_history
      ) h), '[]'));
end
$$;
comment on function rollcall.assemble_simply is 'What the simple context engine needs, as the caller may see it.';
grant execute on function rollcall.assemble_simply to authenticated, service_role;

revoke execute on all functions in schema rollcall from public;
