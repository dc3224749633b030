-- Storing a bundle waits for nobody who is taking its source away, and so cannot be what they deadlock with: whose topic,
-- entity or conversation is locked for that at this moment is left out, and its entry in the queue stays.

-- As before but for `skip locked` and the lock of the user; see context_work.
-- Definer: bundles are the server's.
create or replace function rollcall.store_bundles(p_user uuid, p_bundles jsonb, p_seeing pg_snapshot, p_read_at timestamptz)
  returns table (id uuid, bundle_type public.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_read_at < clock_timestamp() - interval '5 minutes' then
    return;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.context_bundles', 0));
  -- One after the other for each user: what one deletes another may be storing.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.bundles_of:' || p_user, 0));

  delete from public.context_bundles b
  using jsonb_to_recordset(p_bundles) as x (type public.bundle_type, ref uuid, content text)
  where x.content is null and b.user_id = p_user and b.bundle_type = x.type and b.compiled_at < p_read_at
    and x.ref is not distinct from coalesce(b.topic_id, b.entity_id, b.conversation_id);

  return query
    with given as (
      select * from jsonb_to_recordset(p_bundles) as x (type public.bundle_type, ref uuid, content text, tokens int,
        memory_ids uuid[], unit_ids uuid[], instruction_ids uuid[], conversation_ids uuid[], topic_ids uuid[], priority real)
      where x.content is not null
        -- Deleted meanwhile, or just being: its bundle would refer to nothing.
        and case x.type
          when 'topic' then exists (select from public.topic_profiles t where t.id = x.ref for key share skip locked)
          when 'entity' then exists (select from public.entity_profiles e where e.id = x.ref for key share skip locked)
          when 'conversation' then exists (select from public.conversations c where c.id = x.ref for key share skip locked)
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

-- Ends entries. One whose bundle is dirty all the same, because it was left out, comes again soon, unless a newer entry
-- stands for it.
-- Definer: the queue is the server's.
create or replace function rollcall.complete_actions(p_actions bigint[]) returns void
  language sql volatile security definer set search_path = ''
as $$
  update public.system_actions a set
    status = case when l.left_out then 'pending' else 'completed' end::public.action_status,
    run_after = case when l.left_out then clock_timestamp() + interval '500 milliseconds' else a.run_after end,
    finished_at = case when not l.left_out then clock_timestamp() end,
    error = null
  from (
    select x.id, exists (select from public.context_bundles b where b.id = x.bundle_id and b.dirty)
      and not exists (select from public.system_actions o where o.bundle_id = x.bundle_id and o.status = 'pending') as left_out
    from public.system_actions x where x.id = any (p_actions)
  ) l
  where a.id = l.id and a.status = 'processing'
$$;

revoke execute on all functions in schema rollcall from public;
