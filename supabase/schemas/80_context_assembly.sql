-- Module: context
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
