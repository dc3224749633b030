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

-- As before, but whoever stores gives way: bundles that a transaction under way has flagged are waited for while their
-- topics, entities and conversations are held, and that transaction may be about to delete those. It would be what a
-- deadlock ends. Storing gives up long before one is looked for (deadlock_timeout, a second); what is dirty comes again,
-- see complete_actions.
-- Definer: see store_bundles.
create or replace function rollcall.keep_bundles(p_user uuid, p_bundles jsonb, p_seeing text, p_read_at timestamptz, p_tell boolean)
  returns table (id uuid, bundle_type public.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_stored uuid[];
  v_stale uuid[];
  v_news text;
begin
  begin
    perform set_config('lock_timeout', '300ms', true);
    select array_agg(s.id) into v_stored
      from rollcall.store_bundles(p_user, p_bundles, p_seeing::pg_snapshot, p_read_at) s;
    if v_stored is null then
      return;
    end if;
    v_stale := rollcall.finish_bundles(v_stored);
  exception when lock_not_available or deadlock_detected then
    return;
  end;
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

revoke execute on all functions in schema rollcall from public;
