-- Finding units and memories by their meaning, where the server is told of an embeddings API and the database has
-- pgvector; without either nothing here is used, and words decide alone.
-- Invariant: a vector is of the very text that its row has now, or there is none. No vector is ever made up.

-- Makes what vectors need, for vectors of so many numbers by this model: another model's are thrown away. False where
-- the database has no pgvector. What names the type is made here, because the type need not be there.
-- Invoker: for the owner of the tables, which the server is.
create function rollcall.prepare_vectors(p_model text, p_dimensions int) returns boolean
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_schema text;
  v_made_for constant text := format('%s numbers by %s', p_dimensions, p_model);
begin
  perform pg_advisory_xact_lock(hashtextextended('rollcall.vectors', 0));
  if not exists (select from pg_catalog.pg_extension e where e.extname = 'vector') then
    begin
      if to_regnamespace('extensions') is not null then
        create extension vector with schema extensions;
      else
        create extension vector with schema public;
      end if;
    exception when others then
      raise notice 'pgvector cannot be had here (%): words decide alone', sqlerrm;
      return false;
    end;
  end if;
  select n.nspname into v_schema
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  if obj_description(to_regclass('rollcall.vectors'), 'pg_class') = v_made_for then
    return true;
  end if;

  if to_regclass('rollcall.vectors') is not null then
    delete from rollcall.personal_data d where d.relation = to_regclass('rollcall.vectors');
    drop table rollcall.vectors;
  end if;
  execute format($f$
    create table rollcall.vectors (
      kind text not null constraint vectors_kind_is_known check (kind in ('unit', 'memory')),
      id uuid not null,
      user_id uuid not null,
      vector %1$I.vector(%2$s),
      version bigint not null default 1,
      attempts int not null default 0,
      run_after timestamptz not null default now(),
      constraint vectors_pkey primary key (kind, id)
    )$f$, v_schema, p_dimensions);
  execute format('comment on table rollcall.vectors is %L', v_made_for);
  create index vectors_user_id on rollcall.vectors (user_id, kind);
  create index vectors_wanted on rollcall.vectors (run_after) where vector is null;
  alter table rollcall.vectors enable row level security;
  insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason)
    values ('rollcall.vectors', 'user_id', false, null, 'numbers made of units and memories, with which they go');
  insert into rollcall.vectors (kind, id, user_id)
    select 'unit', u.id, u.user_id from public.atomic_chat_units u
    union all
    select 'memory', m.id, m.user_id from public.memories m;

  -- Definer: called from triggers of whoever writes; the table is the server's.
  create or replace function rollcall.want_vectors() returns trigger
    language plpgsql volatile security definer set search_path = ''
  as $f$
  begin
    if tg_op = 'INSERT' then
      insert into rollcall.vectors (kind, id, user_id) select tg_argv[0], c.id, c.user_id from come c
        on conflict (kind, id) do nothing;
    elsif tg_op = 'DELETE' then
      delete from rollcall.vectors v using gone g where v.kind = tg_argv[0] and v.id = g.id;
    else
      update rollcall.vectors v set user_id = c.user_id, version = v.version + 1, attempts = 0, run_after = clock_timestamp(),
          vector = null
        from gone g join come c on c.id = g.id
        where v.kind = tg_argv[0] and v.id = c.id and (g.content, g.user_id) is distinct from (c.content, c.user_id);
    end if;
    return null;
  end
  $f$;
  create or replace trigger want_vectors_of_new after insert on public.atomic_chat_units
    referencing new table as come for each statement execute function rollcall.want_vectors('unit');
  create or replace trigger want_vectors after update on public.atomic_chat_units
    referencing old table as gone new table as come for each statement execute function rollcall.want_vectors('unit');
  create or replace trigger want_no_vectors after delete on public.atomic_chat_units
    referencing old table as gone for each statement execute function rollcall.want_vectors('unit');
  create or replace trigger want_vectors_of_new after insert on public.memories
    referencing new table as come for each statement execute function rollcall.want_vectors('memory');
  create or replace trigger want_vectors after update on public.memories
    referencing old table as gone new table as come for each statement execute function rollcall.want_vectors('memory');
  create or replace trigger want_no_vectors after delete on public.memories
    referencing old table as gone for each statement execute function rollcall.want_vectors('memory');

  -- Stores vectors of texts that are still what they were. Returns how many.
  -- Definer: vectors are the server's.
  execute format($f$
    create or replace function rollcall.store_vectors(p_kinds text[], p_ids uuid[], p_versions bigint[], p_vectors text[]) returns bigint
      language sql volatile security definer set search_path = ''
    as $g$
      with stored as (
        update rollcall.vectors v set vector = x.vector::%1$I.vector, attempts = 0
        from unnest(p_kinds, p_ids, p_versions, p_vectors) x (kind, id, version, vector)
        where v.kind = x.kind and v.id = x.id and v.version = x.version
        returning 1
      )
      select count(*) from stored
    $g$
    $f$, v_schema);
  -- The caller's units or memories that mean nearly the same, best first, with the cosine of the angle.
  -- Definer: for the vectors; answers for auth.uid() only, with ids alone.
  execute format($f$
    create or replace function rollcall.match_meaning(p_kind text, p_vector text, p_limit int) returns table (id uuid, score real)
      language sql stable security definer set search_path = '' rows 40
    as $g$
      select v.id, (1 - (v.vector operator(%1$I.<=>) p_vector::%1$I.vector))::real
      from rollcall.vectors v
      where v.user_id = auth.uid() and v.kind = p_kind and v.vector is not null
      order by v.vector operator(%1$I.<=>) p_vector::%1$I.vector, v.id
      limit p_limit
    $g$
    $f$, v_schema);
  revoke execute on function rollcall.want_vectors(), rollcall.store_vectors(text[], uuid[], bigint[], text[]),
    rollcall.match_meaning(text, text, int) from public;
  grant execute on function rollcall.match_meaning(text, text, int) to authenticated, service_role;
  perform rollcall.record_triggers();
  return true;
end
$$;
comment on function rollcall.prepare_vectors is 'Makes what finding by meaning needs; false where the database has no pgvector.';

-- Takes texts that want a vector. What is not stored comes again, later each time.
-- Invoker: for the server.
create function rollcall.take_texts(p_most int) returns table (kind text, id uuid, version bigint, content text)
  language plpgsql volatile security invoker set search_path = ''
as $$
begin
  return query
    with due as (
      select v.kind, v.id from rollcall.vectors v
      where v.vector is null and v.run_after <= clock_timestamp()
      order by v.run_after limit p_most for update skip locked
    ),
    taken as (
      update rollcall.vectors v set attempts = v.attempts + 1,
        run_after = clock_timestamp() + least(interval '1 hour', interval '30 seconds' * 2 ^ least(v.attempts, 8)) * (0.75 + random() / 2)
      from due where v.kind = due.kind and v.id = due.id
      returning v.kind, v.id, v.version
    )
    select t.kind, t.id, t.version, x.content
    from taken t
    cross join lateral (
      select u.content from public.atomic_chat_units u where t.kind = 'unit' and u.id = t.id
      union all
      select m.content from public.memories m where t.kind = 'memory' and m.id = t.id
    ) x;
end
$$;

-- What was found by words and what is found by meaning, merged by rank; the score is the better of the two. Less alike
-- than the threshold means nothing.
-- Invoker: ids of the caller's own rows, which match_meaning gives.
create function rollcall.merge_meaning(p_kind text, p_ids uuid[], p_scores real[], p_vector text, p_threshold real, p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security invoker set search_path = '' rows 40
as $$
begin
  return query
    with words as (
      select w.id, w.score, w.n from unnest(p_ids, p_scores) with ordinality w (id, score, n)
    ),
    meaning as (
      select m.id, m.score, row_number() over (order by m.score desc, m.id) as n
      from rollcall.match_meaning(p_kind, p_vector, p_limit) m where m.score >= p_threshold
    )
    select coalesce(w.id, m.id), greatest(w.score, m.score)
    from words w full join meaning m on m.id = w.id
    -- Reciprocal ranks; 60 keeps the first places from deciding alone.
    order by coalesce(1.0 / (60 + w.n), 0) + coalesce(1.0 / (60 + m.n), 0) desc, 1
    limit p_limit;
end
$$;
grant execute on function rollcall.merge_meaning to authenticated, service_role;

drop function rollcall.assemble(uuid, text, int);
-- Everything that the prompt for one message needs, in one snapshot; what was matched is looked up by key, as in detect. Null where the
-- caller sees no such conversation. p_vector: the message's meaning, where there are vectors to compare it with.
-- Invoker: row-level security decides what goes in.
create function rollcall.assemble(p_conversation uuid, p_message text, p_history int, p_vector text default null) returns jsonb
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
    into v_units, v_scores from rollcall.match_units(p_message, 40) m;
  select array_agg(m.id order by m.score desc, m.id), array_agg(m.score order by m.score desc, m.id)
    into v_memories, v_memory_scores from rollcall.match_memories(p_message, 30) m;
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

  return jsonb_build_object(
    'conversation', v_conversation,
    'detected', v_detected,
    'bundles', rollcall.wanted_bundles(v_wanted),
    'units', coalesce((
      select jsonb_agg(jsonb_build_object('id', u.id, 'content', u.content, 'score', m.score) order by m.n)
      from unnest(v_units, v_scores) with ordinality m (id, score, n)
      cross join lateral (select * from public.atomic_chat_units u where u.id = m.id and u.state = 'active' offset 0) u), '[]'),
    'memories', coalesce((
      select jsonb_agg(jsonb_build_object('id', me.id, 'content', me.content, 'score', m.score) order by m.n)
      from unnest(v_memories, v_memory_scores) with ordinality m (id, score, n)
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

revoke execute on all functions in schema rollcall from public;
