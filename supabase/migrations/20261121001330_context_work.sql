-- The context engine's work in the background: warm-ups, recompilations, and keeping house.
-- Invariant: whatever any server takes is locked with SKIP LOCKED, so that servers share the work, and no work is lost
-- with a server: what stays under way for too long is taken again.

-- Stores compiled bundles. p_bundles: [{"type", "ref", "content", "tokens", "memory_ids", "unit_ids", "instruction_ids",
-- "conversation_ids", "topic_ids", "priority"}], all compiled from what one snapshot showed. A "content" of null says
-- that there is nothing (any more) to make a bundle of. Returns one row a stored bundle.
-- Invariants: an older compilation never replaces a newer one; what a change contradicts already is stored dirty.
-- The lock is shared among those who store and waits for settle_bundles, see there; what was read longer ago than
-- marks are kept is not stored.
-- Definer: bundles are the server's.
create function rollcall.store_bundles(p_user uuid, p_bundles jsonb, p_seeing pg_snapshot, p_read_at timestamptz)
  returns table (id uuid, bundle_type public.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_read_at < clock_timestamp() - interval '5 minutes' then
    return;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.context_bundles', 0));

  delete from public.context_bundles b
  using jsonb_to_recordset(p_bundles) as x (type public.bundle_type, ref uuid, content text)
  where x.content is null and b.user_id = p_user and b.bundle_type = x.type and b.compiled_at < p_read_at
    and x.ref is not distinct from coalesce(b.topic_id, b.entity_id, b.conversation_id);

  return query
    with given as (
      select * from jsonb_to_recordset(p_bundles) as x (type public.bundle_type, ref uuid, content text, tokens int,
        memory_ids uuid[], unit_ids uuid[], instruction_ids uuid[], conversation_ids uuid[], topic_ids uuid[], priority real)
      where x.content is not null
        -- Deleted meanwhile: its bundle would refer to nothing.
        and case x.type
          when 'topic' then exists (select from public.topic_profiles t where t.id = x.ref for key share)
          when 'entity' then exists (select from public.entity_profiles e where e.id = x.ref for key share)
          when 'conversation' then exists (select from public.conversations c where c.id = x.ref for key share)
          else x.ref is null end
    ),
    stored as (
      insert into public.context_bundles as b (user_id, bundle_type, topic_id, entity_id, conversation_id, content,
        token_count, memory_ids, unit_ids, instruction_ids, conversation_ids, topic_ids, priority, compiled_at,
        compiled_seeing, expires_at, dirty)
      select p_user, g.type, case g.type when 'topic' then g.ref end, case g.type when 'entity' then g.ref end,
        case g.type when 'conversation' then g.ref end, g.content, g.tokens, coalesce(g.memory_ids, '{}'),
        coalesce(g.unit_ids, '{}'), coalesce(g.instruction_ids, '{}'), coalesce(g.conversation_ids, '{}'),
        coalesce(g.topic_ids, '{}'), coalesce(g.priority, 50), p_read_at, p_seeing,
        p_read_at + rollcall.bundle_ttl(g.type), false
      from given g
      order by g.type, g.ref
      on conflict on constraint context_bundles_subject do update set
        content = excluded.content, token_count = excluded.token_count, memory_ids = excluded.memory_ids,
        unit_ids = excluded.unit_ids, instruction_ids = excluded.instruction_ids,
        conversation_ids = excluded.conversation_ids, topic_ids = excluded.topic_ids, priority = excluded.priority,
        compiled_at = excluded.compiled_at, compiled_seeing = excluded.compiled_seeing, expires_at = excluded.expires_at,
        version = nextval('rollcall.bundle_version'), dirty = false
      where b.compiled_at < excluded.compiled_at
      returning b.*
    )
    select s.id, s.bundle_type, s.version, false from stored s;
end
$$;
comment on function rollcall.store_bundles is 'Stores compiled bundles; returns those that were not overtaken.';
grant execute on function rollcall.store_bundles to service_role;

-- After storing: flags what a change contradicts that the compilation did not see, and ends the queue's entries of the
-- others. In the transaction of store_bundles, but a statement of its own: a newer snapshot, in which the rows are.
-- Definer: see store_bundles.
create function rollcall.finish_bundles(p_bundles uuid[]) returns uuid[]
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_stale uuid[];
begin
  select coalesce(array_agg(b.id), '{}') into v_stale
  from public.context_bundles b where b.id = any (p_bundles) and not b.dirty and rollcall.is_contradicted(b, false);
  update public.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = null
  where a.bundle_id = any (p_bundles) and a.bundle_id <> all (v_stale) and a.status in ('pending', 'processing');
  if v_stale <> '{}' then
    update public.system_actions a set status = 'completed', finished_at = clock_timestamp()
    where a.bundle_id = any (v_stale) and a.status = 'processing';
    perform rollcall.flag_bundles(v_stale, 'overtaken');
  end if;
  return v_stale;
end
$$;
grant execute on function rollcall.finish_bundles to service_role;

-- Both in one call, for the server. Returns the stored ones, dirty where overtaken meanwhile.
-- Definer: see store_bundles.
create function rollcall.keep_bundles(p_user uuid, p_bundles jsonb, p_seeing text, p_read_at timestamptz, p_tell boolean)
  returns table (id uuid, bundle_type public.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_stored uuid[];
  v_stale uuid[];
  v_news text;
begin
  select array_agg(s.id) into v_stored
    from rollcall.store_bundles(p_user, p_bundles, p_seeing::pg_snapshot, p_read_at) s;
  if v_stored is null then
    return;
  end if;
  v_stale := rollcall.finish_bundles(v_stored);
  if p_tell then
    select string_agg(format('%s:%s:%s', b.bundle_type, b.id, b.version), ',') into v_news
    from public.context_bundles b where b.id = any (v_stored) and b.id <> all (v_stale);
    if v_news is not null then
      perform pg_notify('rollcall_bundles', format('ready|%s|%s', p_user, left(v_news, 7000)));
    end if;
  end if;
  return query
    select b.id, b.bundle_type, b.version, b.id = any (v_stale)
    from public.context_bundles b where b.id = any (v_stored);
end
$$;
comment on function rollcall.keep_bundles is 'Stores compiled bundles and says so to the user''s sockets where asked to.';
grant execute on function rollcall.keep_bundles to service_role;

-- Counts what an assembly used and missed. Best effort: a bundle that somebody holds is not waited for.
-- Definer: bundles are the server's.
create function rollcall.count_use(p_hits uuid[], p_misses uuid[]) returns void
  language sql volatile security definer set search_path = ''
as $$
  update public.context_bundles b set
    use_count = b.use_count + 1,
    hit_count = b.hit_count + (b.id = any (p_hits))::int,
    miss_count = b.miss_count + (b.id = any (p_misses))::int,
    last_used_at = clock_timestamp()
  from (
    select l.id from public.context_bundles l where l.id = any (p_hits || p_misses) order by l.id
    for no key update skip locked
  ) free
  where b.id = free.id
$$;
grant execute on function rollcall.count_use to service_role;

-- Signals set off a warm-up: one entry a user, however many updates come before it is taken.
-- Definer: the queue is the server's.
create function rollcall.queue_warm_up() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.system_actions (user_id, kind, trigger)
  select new.user_id, 'warm_up', 'presence'
  where not exists (
    select from public.system_actions a where a.user_id = new.user_id and a.kind = 'warm_up' and a.status = 'pending');
  return null;
end
$$;
create trigger queue_warm_up_of_new after insert on public.presence_devices
  for each row when (new.context_version is not null) execute function rollcall.queue_warm_up();
create trigger queue_warm_up after update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on public.presence_devices
  for each row when (old.context_version is distinct from new.context_version)
  execute function rollcall.queue_warm_up();

-- Takes what is due, warm-ups first: somebody waits for those. All of a user's pending warm-ups are taken as one.
-- Definer: the queue is the server's.
create function rollcall.take_actions(p_most int)
  returns table (id bigint, user_id uuid, kind text, bundle_id uuid, bundle_type public.bundle_type, ref uuid, attempts int)
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  return query
    with due as (
      select a.id from public.system_actions a
      where a.status = 'pending' and a.run_after <= clock_timestamp()
      order by a.kind desc, a.run_after, a.id
      limit p_most for update skip locked
    ),
    taken as (
      update public.system_actions a set status = 'processing', attempts = a.attempts + 1, started_at = clock_timestamp()
      from due where a.id = due.id
      returning a.*
    )
    select t.id, t.user_id, t.kind, t.bundle_id, b.bundle_type, coalesce(b.topic_id, b.entity_id, b.conversation_id),
      t.attempts
    from taken t left join public.context_bundles b on b.id = t.bundle_id
    order by t.id;
end
$$;
comment on function rollcall.take_actions is 'Takes what is due from the queue of background work.';
grant execute on function rollcall.take_actions to service_role;

create function rollcall.complete_actions(p_actions bigint[]) returns void
  language sql volatile security definer set search_path = ''
as $$
  update public.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = null
  where a.id = any (p_actions) and a.status = 'processing'
$$;
grant execute on function rollcall.complete_actions to service_role;

-- Puts an action back for later, or after its last attempt among the dead letters: status failed, with the error.
-- Definer: the queue is the server's.
create function rollcall.fail_action(p_action bigint, p_error text, p_wait interval, p_most_attempts int) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_action public.system_actions;
begin
  select * into v_action from public.system_actions a where a.id = p_action and a.status = 'processing' for update;
  if not found then
    return;
  end if;
  update public.system_actions a set
    error = left(p_error, 1000),
    finished_at = clock_timestamp(),
    run_after = clock_timestamp() + p_wait,
    status = case
      when a.attempts >= p_most_attempts then 'failed'
      -- A newer entry stands for it.
      when a.bundle_id is not null and exists (
        select from public.system_actions o where o.bundle_id = a.bundle_id and o.status = 'pending') then 'completed'
      else 'pending' end::public.action_status
  where a.id = p_action;
end
$$;
grant execute on function rollcall.fail_action to service_role;

-- Keeps house: sets left flags, forgets marks that every bundle knows of, takes back what was left under way, and
-- deletes what nobody will ask for. Returns how many rows went.
-- Definer: acts on everybody's rows; for the server.
create function rollcall.tidy_context() returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count bigint;
  v_all bigint := 0;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall.tidy_context', 0)) then
    return 0;
  end if;
  perform rollcall.settle_bundles();
  -- Twice as long as the oldest reading that may still be stored.
  delete from rollcall.context_marks m where m.seen_at < clock_timestamp() - interval '10 minutes';
  get diagnostics v_all = row_count;
  update public.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = 'overtaken'
  where a.status = 'processing' and a.started_at < clock_timestamp() - interval '5 minutes' and a.bundle_id is not null
    and exists (select from public.system_actions o where o.bundle_id = a.bundle_id and o.status = 'pending');
  update public.system_actions a set status = 'pending', run_after = clock_timestamp()
  where a.status = 'processing' and a.started_at < clock_timestamp() - interval '5 minutes';
  -- A dirty bundle without an entry, as after an entry was given up long ago, is tried again when it is next wanted.
  delete from public.system_actions a where a.status = 'completed' and a.finished_at < clock_timestamp() - interval '1 hour';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from public.system_actions a where a.status = 'failed' and a.finished_at < clock_timestamp() - interval '30 days';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from public.context_bundles b
  where b.expires_at < clock_timestamp() - interval '7 days'
    and coalesce(b.last_used_at, b.compiled_at) < clock_timestamp() - interval '30 days';
  get diagnostics v_count = row_count;
  return v_all + v_count;
end
$$;
comment on function rollcall.tidy_context is 'Keeps the context engine''s house; returns how many rows went.';
grant execute on function rollcall.tidy_context to service_role;

-- What a warm-up is guessed from: the device's signals, and what the caller has been engaged in of late.
-- Null without a device. p_device null: the one whose signals are newest.
-- Invoker: the caller's own rows under their policies.
create function rollcall.context_signals(p_device text, p_hour int) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_device public.presence_devices;
begin
  select * into v_device from public.presence_devices d
  where d.user_id = v_me and (p_device is null or d.device_id = p_device)
  order by d.context_updated_at desc nulls last, d.last_heartbeat_at desc
  limit 1;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'device_id', v_device.device_id,
    'active_conversation_id', (select c.id from public.conversations c where c.id = v_device.active_conversation_id),
    'visible_conversation_ids', coalesce((
      select jsonb_agg(v.id order by v.n) from unnest(v_device.visible_conversation_ids) with ordinality v (id, n)
      where v.id in (select c.id from public.conversations c where c.id = any (v_device.visible_conversation_ids))), '[]'),
    'navigation_history', v_device.navigation_history,
    'local_time', v_device.local_time,
    'active_topics', coalesce((
      select jsonb_agg(x.topic_id order by x.relevance desc, x.topic_id) from (
        select l.topic_id, l.relevance from public.topic_conversations l
        where l.conversation_id = v_device.active_conversation_id and l.user_id = v_me
        order by l.relevance desc, l.topic_id limit 5) x), '[]'),
    'hours', coalesce((
      select jsonb_agg(jsonb_build_object('id', x.id, 'hour', x.peak_hour, 'importance', x.importance) order by x.importance desc, x.id)
      from (
        select t.id, t.peak_hour, t.importance from public.topic_profiles t
        where t.user_id = v_me and t.importance >= 0.4::real
          and t.peak_hour = coalesce(p_hour, extract(hour from now())::int)
        order by t.importance desc, t.id limit 3
      ) x), '[]'),
    'hot', coalesce((
      select jsonb_agg(jsonb_build_object('id', x.id, 'importance', x.importance) order by x.streak_days desc, x.importance desc, x.id)
      from (
        select t.id, t.streak_days, t.importance from public.topic_profiles t
        where t.user_id = v_me and t.last_engaged_at > now() - interval '48 hours'
        order by t.streak_days desc, t.importance desc, t.id limit 5
      ) x), '[]'),
    'entities', coalesce((
      select jsonb_agg(jsonb_build_object('id', x.id, 'importance', x.importance) order by x.importance desc, x.id)
      from (
        select e.id, e.importance from public.entity_profiles e
        where e.user_id = v_me and e.last_mentioned_at > now() - interval '72 hours'
        order by e.last_mentioned_at desc, e.id limit 5
      ) x), '[]'));
end
$$;
comment on function rollcall.context_signals is 'What a warm-up is guessed from.';
grant execute on function rollcall.context_signals to authenticated, service_role;

-- Bundles and their states, counted: of the caller, or of everybody for the service.
-- Definer: freshness needs the marks; answers for auth.uid() unless the role is service_role.
create function rollcall.context_counts() returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_all constant boolean := coalesce(auth.role() = 'service_role', false);
begin
  return (
    select jsonb_build_object(
      'topicProfiles', (select count(*) from public.topic_profiles t where v_all or t.user_id = v_me),
      'entityProfiles', (select count(*) from public.entity_profiles e where v_all or e.user_id = v_me),
      'contextBundles', count(*),
      'dirtyBundles', count(*) filter (where b.dirty or rollcall.is_contradicted(b, true)),
      'invalidationQueue', (select count(*) from public.system_actions a
        where (v_all or a.user_id = v_me) and a.status in ('pending', 'processing')),
      'deadLetters', (select count(*) from public.system_actions a where (v_all or a.user_id = v_me) and a.status = 'failed'),
      'freshTopicBundles', count(*) filter (where b.bundle_type = 'topic' and rollcall.is_fresh(b)),
      'freshEntityBundles', count(*) filter (where b.bundle_type = 'entity' and rollcall.is_fresh(b)),
      'freshConversationBundles', count(*) filter (where b.bundle_type = 'conversation' and rollcall.is_fresh(b)),
      'totalFreshBundles', count(*) filter (where rollcall.is_fresh(b)))
    from public.context_bundles b where v_all or b.user_id = v_me
  );
end
$$;
comment on function rollcall.context_counts is 'Bundles and their states, counted: the caller''s, or everybody''s for the service.';
grant execute on function rollcall.context_counts to authenticated, service_role;

-- Says by hand that a source has changed: flags the caller's bundle about p_ref, or all of the types without one.
-- Returns how many were flagged.
-- Definer: flags are the server's; acts for auth.uid() only.
create function rollcall.invalidate_mine(p_event text, p_types public.bundle_type[], p_topic uuid, p_entity uuid,
    p_conversation uuid, p_memory uuid, p_instruction uuid) returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_bundles uuid[];
  v_narrow constant boolean := num_nonnulls(p_topic, p_entity, p_conversation, p_memory, p_instruction) > 0;
begin
  select coalesce(array_agg(b.id), '{}') into v_bundles
  from public.context_bundles b
  where b.user_id = v_me and b.bundle_type = any (p_types)
    and (not v_narrow
      -- Identity and preferences are one each: an id does not narrow them.
      or (b.bundle_type in ('identity_core', 'global_prefs'))
      or b.topic_id = p_topic or b.entity_id = p_entity or b.conversation_id = p_conversation
      or p_memory = any (b.memory_ids) or p_instruction = any (b.instruction_ids));
  return rollcall.flag_bundles(v_bundles, p_event);
end
$$;
comment on function rollcall.invalidate_mine is 'Flags the caller''s bundles as dirty by hand; returns how many.';
grant execute on function rollcall.invalidate_mine to authenticated, service_role;

revoke execute on all functions in schema rollcall from public;
