-- What a source's triggers cost whoever writes, cut again.
-- Invariant, as before: what a snapshot does not see of the marks, a bundle that was compiled in it does not contain.

-- PostgreSQL reads a check anew from its text in every statement that inserts, which cost as much as the insert. Marks
-- are written by the functions of the engine alone, and bundles_touched takes a kind that it does not know for all.
alter table rollcall.context_marks drop constraint context_marks_kind_is_known;
comment on column rollcall.context_marks.kind is
  'identity, prefs, memory, topic, label, entity, unit, message, conversation or all.';

-- Memories: identity and preferences only where the memory was or is of those that they choose from; topics by name.
-- Step by step, because a small statement starts sooner: most memories are of no topic's words, and few are identity.
create or replace function rollcall.on_memories_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_clean uuid[];
  v_memories uuid[];
  v_topics uuid[];
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  if tg_op = 'INSERT' then
    insert into rollcall.context_marks (kind, user_id, key, refs)
      select 'memory', c.user_id, c.user_id, array_agg(c.id) from come c where c.is_active group by c.user_id;
    if exists (
      select from come c
      where c.is_active and (c.category in ('biography', 'identity', 'role') and c.importance >= 0.8::real
        or c.category = 'preference' and c.importance >= 0.6::real)
    ) then
      with marked as (
        insert into rollcall.context_marks (kind, user_id, key)
          select distinct k.kind, c.user_id, c.user_id
          from come c cross join lateral rollcall.memory_kinds(c.id, c.category, c.importance, c.is_active) k
          where k.kind <> 'memory'
        returning kind, user_id
      )
      select array_agg(b.id) into v_clean
      from marked m
      join public.context_bundles b on b.user_id = m.user_id and not b.dirty
        and b.bundle_type = case m.kind when 'identity' then 'identity_core' else 'global_prefs' end::public.bundle_type;
    end if;
    -- Rows are looked up by key, one by one (hence each `offset 0`): plans are made without knowing how few there are.
    select array_agg(c.id), array_agg(w.topic_id) into v_memories, v_topics
    from come c
    cross join lateral unnest(c.search) l
    cross join lateral (
      select w.topic_id from rollcall.topic_words w where w.user_id = c.user_id and w.word = l.lexeme offset 0) w
    where c.is_active;
    if v_topics is not null then
      select v_clean || array_agg(distinct b.id) into v_clean
      from unnest(v_memories, v_topics) x (memory_id, topic_id)
      cross join lateral (select m.search from public.memories m where m.id = x.memory_id offset 0) m
      cross join lateral (
        select t.user_id from public.topic_profiles t where t.id = x.topic_id and m.search @@ t.query offset 0) t
      cross join lateral (
        select b.id from public.context_bundles b
        where b.topic_id = x.topic_id and b.user_id = t.user_id and not b.dirty offset 0) b;
    end if;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      perform rollcall.flag_touched(v_clean, 'memory_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select array_agg(k.kind), array_agg(g.user_id), array_agg(k.ref) into v_kinds, v_users, v_refs
    from gone g cross join lateral rollcall.memory_kinds(g.id, g.category, g.importance, g.is_active) k;
  else
    select array_agg(x.kind), array_agg(x.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from gone g join come c on c.id = g.id
    cross join lateral (
      select k.kind, g.user_id, k.ref from rollcall.memory_kinds(g.id, g.category, g.importance, g.is_active) k
      union
      select k.kind, c.user_id, k.ref from rollcall.memory_kinds(c.id, c.category, c.importance, c.is_active) k
    ) x
    where (g.user_id, g.content, g.category, g.importance, g.is_active, g.created_at)
      is distinct from (c.user_id, c.content, c.category, c.importance, c.is_active, c.created_at);
  end if;
  if v_kinds is not null then
    perform rollcall.note_changes('memory_' || case tg_op when 'DELETE' then 'deleted' else 'updated' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;

revoke execute on all functions in schema rollcall from public;
