-- What a DBA asks about prepared context: which bundles must be made again, and what waits to be done.
-- Invariant: views show what the asking role may see of the tables behind them.

create view rollcall.dirty_bundles with (security_invoker = true) as
  select
    b.user_id, b.id, b.bundle_type, b.topic_id, b.entity_id, b.conversation_id, b.persona_id, b.version,
    case when b.dirty then 'dirty' else 'expired' end as state,
    b.priority, b.compiled_at, b.expires_at, b.use_count, b.last_used_at
  from public.context_bundles b
  where b.dirty or b.expires_at <= now();
comment on view rollcall.dirty_bundles is 'Prepared context that must be made again before it is served.';

create view rollcall.invalidation_queue with (security_invoker = true) as
  select
    a.id, a.user_id, a.kind, a.bundle_id, a.trigger, a.status, a.attempts, a.error, a.created_at, a.run_after,
    a.started_at, now() - a.created_at as age
  from public.system_actions a
  where a.finished_at is null;
comment on view rollcall.invalidation_queue is 'What servers are to do for prepared context and have not finished, with its age.';

revoke all on rollcall.dirty_bundles, rollcall.invalidation_queue from anon, authenticated;
grant select on rollcall.dirty_bundles, rollcall.invalidation_queue to authenticated, service_role;
