-- A topic, entity or conversation that is deleted takes its bundle along. Made anew under the same id, as a restore does,
-- it must not get the bundle of the one before, which somebody may have compiled then and stores now.
-- Invariant: the deletion is a change like others: it leaves a mark that contradicts whatever was read before it.

-- Whose a topic or an entity was; a conversation is everybody's who takes part. Definer: see note_changes.
create function rollcall.on_subjects_deleted() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall.note_changes(tg_argv[0] || '_deleted', array_agg(tg_argv[0]),
    array_agg((to_jsonb(g) ->> 'user_id')::uuid), array_agg(g.id))
  from gone g having count(*) > 0;
  return null;
end
$$;
create trigger context_after_delete after delete on public.topic_profiles
  referencing old table as gone for each statement execute function rollcall.on_subjects_deleted('topic');
create trigger context_after_delete after delete on public.entity_profiles
  referencing old table as gone for each statement execute function rollcall.on_subjects_deleted('entity');
create trigger context_after_delete after delete on public.conversations
  referencing old table as gone for each statement execute function rollcall.on_subjects_deleted('conversation');

do $$ begin perform rollcall.record_triggers(); end $$;

revoke execute on all functions in schema rollcall from public;
