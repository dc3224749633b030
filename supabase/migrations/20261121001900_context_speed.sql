-- Assembly in a few milliseconds. PostgreSQL plans the body of a function in SQL anew in every statement that calls it, and
-- one in PL/pgSQL once a connection: what every prompt and many policies call is in PL/pgSQL.
-- Invariant: what comes out is what came out before; see presence_policies, context_access and context_assembly.

-- The caller's own teams and conversations. Definer, because a policy on a membership table that reads the same
-- table would recurse; they answer for the caller only.
create or replace function rollcall.my_teams() returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 10
as $$
begin
  return query select m.team_id from public.team_members m where m.user_id = auth.uid();
end
$$;
create or replace function rollcall.my_conversations() returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 100
as $$
begin
  return query select p.conversation_id from public.conversation_participants p where p.user_id = auth.uid();
end
$$;

-- Whether bundles may be believed -------------------------------------------------------------------------------------

alter table rollcall.context_access add column versions bigint;
comment on column rollcall.context_access.versions is
  'Which versions of the catalogs'' rows the fingerprint was last found in; null: not known.';

-- The rows of the catalogs that decide who may see the sources of bundles, each with its version: the tables, their
-- policies, and the functions that these call.
-- Definer: reads catalogs only.
create function rollcall.context_catalog() returns table (catalog regclass, id oid, version xid)
  language plpgsql stable security definer set search_path = '' rows 40
as $$
begin
  return query
    with source as materialized (
      select c.oid, c.xmin from pg_catalog.pg_class c
      where c.relnamespace = 'public'::regnamespace and c.relname in ('conversations', 'conversation_participants', 'messages',
        'atomic_chat_units', 'memories', 'custom_instructions', 'topic_profiles', 'entity_profiles', 'topic_conversations',
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
    select 'pg_catalog.pg_class'::regclass, s.oid, s.xmin from source s
    union all
    select 'pg_catalog.pg_policy'::regclass, p.oid, p.xmin from policy p
    union all
    select 'pg_catalog.pg_proc'::regclass, f.oid, f.xmin
    from called c cross join lateral (select f.oid, f.xmin from pg_catalog.pg_proc f where f.oid = c.oid offset 0) f;
end
$$;

-- Their versions in one number: the same rows have the same fingerprint, and comparing them costs a fraction. Other
-- rows may have the same fingerprint too.
-- Definer: reads catalogs only.
create function rollcall.context_versions() returns bigint
  language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select bit_xor(hashint8extended(c.id::bigint << 32 | c.version::text::bigint, c.catalog::oid::bigint))
    from rollcall.context_catalog() c);
end
$$;

-- What they say, in one number. Policies are told by their versions, so that a change taken back is another one; tables
-- and functions are not: a grant on a function is no other policy.
-- Definer: reads catalogs only.
create or replace function rollcall.context_fingerprint() returns bigint
  language sql stable security definer set search_path = ''
as $$
  select coalesce(sum(hashtextextended(part, 0) % 4294967296), 0)::bigint
  from rollcall.context_catalog() k
  left join pg_catalog.pg_class c on k.catalog = 'pg_catalog.pg_class'::regclass and c.oid = k.id
  left join pg_catalog.pg_proc f on k.catalog = 'pg_catalog.pg_proc'::regclass and f.oid = k.id
  cross join lateral (
    select case k.catalog
      when 'pg_catalog.pg_class'::regclass
        then c.oid::text || c.relrowsecurity::text || c.relforcerowsecurity::text || coalesce(c.relacl::text, '')
      when 'pg_catalog.pg_proc'::regclass
        then f.oid::text || f.prosecdef::text || coalesce(f.proconfig::text, '') || coalesce(f.prosrc, '')
          || coalesce(f.prosqlbody::text, '')
      else k.id::text || k.version::text end as part
  ) told
$$;

-- Whether bundles may be believed: who may see what is as when they were told of it last.
-- Definer: reads a table that nobody else may; says nothing of anybody.
create or replace function rollcall.context_access_holds() returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_known rollcall.context_access;
begin
  select * into v_known from rollcall.context_access a;
  if v_known.versions = rollcall.context_versions() then
    return true;
  end if;
  return coalesce(v_known.fingerprint = rollcall.context_fingerprint(), false);
end
$$;

-- Tells all bundles of changed policies or grants. They are flagged and not queued: nobody waits for all of them at once,
-- and each is compiled again when it is next wanted. A compilation that read under the old ones finds the mark.
-- Definer: bundles are the server's; for the server.
create or replace function rollcall.settle_access() returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_known rollcall.context_access;
  v_fingerprint bigint;
  v_versions bigint;
  v_count bigint;
begin
  select * into v_known from rollcall.context_access a;
  if v_known.versions = rollcall.context_versions() then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0));
  -- Of one snapshot.
  select rollcall.context_fingerprint(), rollcall.context_versions() into v_fingerprint, v_versions;
  update rollcall.context_access a set versions = v_versions where a.fingerprint = v_fingerprint;
  if found then
    return 0;
  end if;
  insert into rollcall.context_access as a (only_row, fingerprint, versions) values (true, v_fingerprint, v_versions)
    on conflict (only_row) do update set fingerprint = excluded.fingerprint, versions = excluded.versions;
  -- For what was read before and is stored later, and for bundles that somebody holds at this moment.
  insert into rollcall.context_marks (kind, key) values ('all', '00000000-0000-0000-0000-000000000000');
  update public.context_bundles b set dirty = true, miss_count = b.miss_count + 1
  from (select f.id from public.context_bundles f where not f.dirty order by f.id for no key update skip locked) free
  where b.id = free.id;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Which of the caller's bundles may be served at this moment: in the caller's statement and so in its snapshot.
-- Where nothing was marked, nothing can contradict them; else each is judged (see is_contradicted).
-- Definer: reads marks, which nobody else may; answers for auth.uid() only.
drop function rollcall.my_bundle_is_fresh(uuid);
create function rollcall.my_fresh_bundles(p_bundles uuid[]) returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 10
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with mine as materialized (
      select b.bundle, b.id, b.conversation_id
      from unnest(p_bundles) i (id)
      cross join lateral (
        select b as bundle, b.id, b.conversation_id from public.context_bundles b
        where b.id = i.id and b.user_id = v_me and not b.dirty and b.expires_at > clock_timestamp()
          -- Restored into another cluster, a snapshot means nothing.
          and pg_snapshot_xmax(b.compiled_seeing) <= pg_snapshot_xmax(pg_current_snapshot())
        offset 0) b
    ),
    marks as materialized (
      select exists (
        select from rollcall.context_marks k
        where k.seen_at is null and k.key = any (
          array[v_me, '00000000-0000-0000-0000-000000000000'] || array(select m.conversation_id from mine m))) as are_there
    )
    select m.id from mine m cross join marks k where not k.are_there or rollcall.is_fresh(m.bundle);
end
$$;
comment on function rollcall.my_fresh_bundles is 'Which of the caller''s bundles may be served at this moment.';
grant execute on function rollcall.my_fresh_bundles to authenticated, service_role;

-- Reading --------------------------------------------------------------------------------------------------------------

-- The caller's bundles about some things: each one's content where it is fresh, else its sources and why not.
-- $1: [{"type", "ref" of topic, entity or conversation}]; p_force treats all as not fresh. In the order of the list.
-- One statement sees one snapshot, so what is called fresh here is as new as everything else in the answer.
-- Invoker: see bundle_sources.
create or replace function rollcall.wanted_bundles(p_wanted jsonb, p_force boolean default false) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_holds constant boolean := rollcall.context_access_holds();
begin
  return (
    with wanted as materialized (
      select (a.w ->> 'type')::public.bundle_type as type, (a.w ->> 'ref')::uuid as ref, a.n
      from jsonb_array_elements(p_wanted) with ordinality a (w, n)
    ),
    found as materialized (
      select w.type, w.ref, w.n, b.id, b.content, b.token_count, b.version, b.unit_ids, b.memory_ids, b.compiled_at,
        b.dirty, b.expires_at
      from wanted w
      left join lateral (
        select * from public.context_bundles b
        where w.type = 'topic' and b.topic_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from public.context_bundles b
        where w.type = 'entity' and b.entity_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from public.context_bundles b
        where w.type = 'conversation' and b.conversation_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from public.context_bundles b
        where w.type not in ('topic', 'entity', 'conversation') and b.user_id = v_me and b.bundle_type = w.type
          and b.persona_id is null and b.topic_id is null and b.entity_id is null and b.conversation_id is null
        offset 0
      ) b on true
    ),
    fresh as materialized (
      select f.id from rollcall.my_fresh_bundles(array(select o.id from found o where not o.dirty)) f (id)
      where v_holds and not p_force
    ),
    judged as (
      select f.*, case
        when f.id is null then 'missing'
        when p_force then 'forced'
        when f.dirty or not v_holds then 'dirty'
        when f.expires_at <= clock_timestamp() then 'expired'
        when not exists (select from fresh r where r.id = f.id) then 'dirty'
        -- Under the policies of this moment: they may decide by more than membership.
        when f.type = 'conversation' and (select c.id from public.conversations c where c.id = f.ref limit 1) is null then 'dirty'
        else 'fresh' end as reason
      from found f offset 0
    )
    select coalesce(jsonb_agg(
      jsonb_build_object('type', j.type, 'ref', j.ref, 'reason', j.reason, 'id', j.id)
      || case when j.reason = 'fresh' then jsonb_build_object('content', j.content, 'tokens', j.token_count,
          'version', j.version, 'unit_ids', j.unit_ids, 'memory_ids', j.memory_ids, 'compiled_at', j.compiled_at)
        else jsonb_build_object('sources', case j.type
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

-- The caller's units or memories that a text is about, best first. A word counts the more the rarer it is among them,
-- and at most three hundred rows a word are looked at; the score is what was found of the weight of the text's five
-- weightiest words, from 0 to 1.
-- Definer: for the index; answers for auth.uid() only.
drop function rollcall.match_units(text, int);
drop function rollcall.match_memories(text, int);
create function rollcall.match_words(p_kind text, p_text text, p_limit int) returns table (id uuid, score real)
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
    found as materialized (
      select ln(1 + 1000::float8 / cardinality(h.ids)) as weight, h.ids
      from words w
      cross join lateral (select plainto_tsquery('pg_catalog.simple', w.lexeme) as query offset 0) q
      cross join lateral (
        select array(
          select u.id from public.atomic_chat_units u
          where p_kind = 'unit' and u.user_id = v_me and u.state = 'active' and u.search @@ q.query
          union all
          select m.id from public.memories m
          where p_kind = 'memory' and m.user_id = v_me and m.is_active and m.search @@ q.query
          limit 300
        ) as ids offset 0
      ) h
      where h.ids <> '{}'
    ),
    whole as materialized (
      select greatest(sum(h.weight), ln(1 + 1000::float8 / 5)) as weight
      from (select f.weight from found f order by f.weight desc limit 5) h
    )
    select s.id, least(1, s.weight / (select w.weight from whole w))::real
    from (select i.id, sum(f.weight) as weight from found f cross join lateral unnest(f.ids) i (id) group by i.id) s
    order by s.weight desc, s.id
    limit p_limit;
end
$$;
comment on function rollcall.match_words is
  'The caller''s units or memories that a text is about by its words, best first, with a score from 0 to 1.';
grant execute on function rollcall.match_words to authenticated, service_role;

-- The caller's topics and entities that a message is about: those of its conversation, those that it names (also with
-- a slip of the pen), and those of the units that match it. Each with a score from 0 to 1 and the reason.
-- Each matched unit is looked up by its key (hence the `offset 0`): the plan is made once, without knowing how few there are.
-- Invoker: the caller's own profiles under their policies.
create or replace function rollcall.detect(p_conversation uuid, p_message text, p_units uuid[], p_scores real[])
  returns table (kind text, id uuid, name text, score real, reason text)
  language plpgsql stable security invoker set search_path = '' rows 10
as $$
declare
  v_me constant uuid := auth.uid();
  v_said constant tsvector := to_tsvector('pg_catalog.english', left(p_message, 20000));
  v_slips text[];
  v_beginnings text[];
begin
  -- Any longer word may be a misspelt name that begins alike. Names are held against the beginnings first, one a row.
  select array_agg(w.word), array_agg(left(w.word, 2)) into v_slips, v_beginnings from (
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
        select 'topic' as kind, t.id, lower(t.label) as name from public.topic_profiles t
        where t.user_id = v_me and left(lower(t.label), 2) = any (v_beginnings)
        union all
        select 'topic', t.id, lower(n) from public.topic_profiles t, unnest(t.aliases) n
        where t.user_id = v_me and t.aliases <> '{}' and left(lower(n), 2) = any (v_beginnings)
        union all
        select 'entity', e.id, lower(e.name) from public.entity_profiles e
        where e.user_id = v_me and left(lower(e.name), 2) = any (v_beginnings)
        union all
        select 'entity', e.id, lower(n) from public.entity_profiles e, unnest(e.aliases) n
        where e.user_id = v_me and e.aliases <> '{}' and left(lower(n), 2) = any (v_beginnings)
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

drop function rollcall.assemble(uuid, text, int, text);
-- Everything that the prompt for one message needs, in one snapshot; what was matched is looked up by key, as in detect. Null where the
-- caller sees no such conversation. p_vector: the message's meaning, where there are vectors to compare it with.
-- As text from the start (json), because nobody looks into it before it is sent.
-- Invoker: row-level security decides what goes in.
create function rollcall.assemble(p_conversation uuid, p_message text, p_history int, p_vector text default null) returns json
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_conversation jsonb;
  v_units uuid[];
  v_scores real[];
  v_memories uuid[];
  v_memory_scores real[];
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
    into v_units, v_scores from rollcall.match_words('unit', p_message, 40) m;
  select array_agg(m.id order by m.score desc, m.id), array_agg(m.score order by m.score desc, m.id)
    into v_memories, v_memory_scores from rollcall.match_words('memory', p_message, 30) m;
  if p_vector is not null then
    select array_agg(m.id order by m.n), array_agg(m.score order by m.n) into v_units, v_scores
    from rollcall.merge_meaning('unit', v_units, v_scores, p_vector, 0.35, 40) with ordinality m (id, score, n);
    select array_agg(m.id order by m.n), array_agg(m.score order by m.n) into v_memories, v_memory_scores
    from rollcall.merge_meaning('memory', v_memories, v_memory_scores, p_vector, 0.40, 30) with ordinality m (id, score, n);
  end if;
  select coalesce(jsonb_agg(to_jsonb(d)), '[]') into v_detected
    from rollcall.detect(p_conversation, p_message, v_units[1:20], v_scores[1:20]) d;
  select jsonb_build_array(
      jsonb_build_object('type', 'identity_core'), jsonb_build_object('type', 'global_prefs'),
      jsonb_build_object('type', 'conversation', 'ref', p_conversation))
    || coalesce(jsonb_agg(jsonb_build_object('type', d ->> 'kind', 'ref', d ->> 'id')), '[]')
    into v_wanted from jsonb_array_elements(v_detected) d;

  return json_build_object(
    'conversation', v_conversation,
    'detected', v_detected,
    'bundles', rollcall.wanted_bundles(v_wanted),
    'units', coalesce((
      select json_agg(json_build_object('id', u.id, 'content', u.content, 'score', m.score) order by m.n)
      from unnest(v_units, v_scores) with ordinality m (id, score, n)
      cross join lateral (select * from public.atomic_chat_units u where u.id = m.id and u.state = 'active' offset 0) u), '[]'),
    'memories', coalesce((
      select json_agg(json_build_object('id', me.id, 'content', me.content, 'score', m.score) order by m.n)
      from unnest(v_memories, v_memory_scores) with ordinality m (id, score, n)
      cross join lateral (select * from public.memories me where me.id = m.id and me.is_active offset 0) me), '[]'),
    'history', coalesce((
      select json_agg(json_build_object('id', h.id, 'role', h.role, 'content', h.content, 'tokens', h.token_count,
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


-- What was just written is sorted into the indexes at once: a list of it, which every search would read for every word of a
-- message, costs prompts more than it saves whoever writes units and memories.
alter index public.atomic_chat_units_search set (fastupdate = off);
alter index public.memories_search set (fastupdate = off);
do $$
begin
  perform gin_clean_pending_list('public.atomic_chat_units_search'), gin_clean_pending_list('public.memories_search');
end
$$;

-- Counting ---------------------------------------------------------------------------------------------------------

-- Counts how often prompts used bundles. Best effort: a bundle that somebody holds is not waited for.
-- Definer: bundles are the server's.
drop function rollcall.count_use(uuid[], uuid[]);
create function rollcall.count_uses(p_bundles uuid[], p_hits int[], p_misses int[]) returns void
  language sql volatile security definer set search_path = ''
as $$
  update public.context_bundles b set
    use_count = b.use_count + free.hits + free.misses,
    hit_count = b.hit_count + free.hits,
    miss_count = b.miss_count + free.misses,
    last_used_at = clock_timestamp()
  from (
    select l.id, u.hits, u.misses
    from unnest(p_bundles, p_hits, p_misses) u (id, hits, misses) join public.context_bundles l on l.id = u.id
    order by l.id for no key update of l skip locked
  ) free
  where b.id = free.id
$$;
grant execute on function rollcall.count_uses to service_role;

-- The policies call other functions now, and say the same.
do $$
begin
  update rollcall.context_access a set fingerprint = rollcall.context_fingerprint(), versions = rollcall.context_versions();
end
$$;

revoke execute on all functions in schema rollcall from public;
