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

-- Whoever stores gives way: bundles that a transaction under way has flagged are waited for while their topics, entities and
-- conversations are held, and that transaction may be about to delete those. It would be what a deadlock ends. Storing
-- gives up long before one is looked for (deadlock_timeout, a second); what is dirty comes again, see complete_actions.
alter function rollcall.keep_bundles(uuid, jsonb, text, timestamptz, boolean) rename to keep_bundles_patiently;
comment on function rollcall.keep_bundles_patiently is 'What keep_bundles does, however long others hold what it needs.';
revoke execute on function rollcall.keep_bundles_patiently from service_role;

-- Definer: see store_bundles.
create function rollcall.keep_bundles(p_user uuid, p_bundles jsonb, p_seeing text, p_read_at timestamptz, p_tell boolean)
  returns table (id uuid, bundle_type public.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform set_config('lock_timeout', '300ms', true);
  return query select * from rollcall.keep_bundles_patiently(p_user, p_bundles, p_seeing, p_read_at, p_tell);
exception when lock_not_available or deadlock_detected then
  return;
end
$$;
comment on function rollcall.keep_bundles is 'Stores compiled bundles and says so to the user''s sockets where asked to; none where others hold what it needs.';
grant execute on function rollcall.keep_bundles to service_role;

revoke execute on all functions in schema rollcall from public;
