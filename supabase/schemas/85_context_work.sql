-- Module: context
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
