-- A topic, entity or conversation that is deleted takes its bundle along. Made anew under the same id, as a restore does,
-- it must not get the bundle of the one before, which somebody may have compiled then and stores now.
-- Invariant: the deletion is a change like others: it leaves a mark that contradicts whatever was read before it.

-- Definer: see note_changes.
create function rollcall.on_topics_deleted() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall.note_changes('topic_deleted', array_agg('topic'::text), array_agg(g.user_id), array_agg(g.id))
  from gone g having count(*) > 0;
  return null;
end
$$;
create trigger context_after_delete after delete on public.topic_profiles
  referencing old table as gone for each statement execute function rollcall.on_topics_deleted();

-- Definer: see note_changes.
create function rollcall.on_entities_deleted() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall.note_changes('entity_deleted', array_agg('entity'::text), array_agg(g.user_id), array_agg(g.id))
  from gone g having count(*) > 0;
  return null;
end
$$;
create trigger context_after_delete after delete on public.entity_profiles
  referencing old table as gone for each statement execute function rollcall.on_entities_deleted();

-- Definer: see note_changes.
create function rollcall.on_conversations_deleted() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall.note_changes('conversation_deleted', array_agg('conversation'::text), array_agg(null::uuid), array_agg(g.id))
  from gone g having count(*) > 0;
  return null;
end
$$;
create trigger context_after_delete after delete on public.conversations
  referencing old table as gone for each statement execute function rollcall.on_conversations_deleted();

do $$ begin perform rollcall.record_triggers(); end $$;

revoke execute on all functions in schema rollcall from public;
