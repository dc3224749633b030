-- A bundle was compiled from what its user was allowed to see then. Whoever is no longer allowed to see a source must not
-- read it in a bundle either.
-- Invariant: a bundle is served only under the policies and grants that it was compiled under, and one of a
-- conversation only to who sees that conversation at this moment. Membership is a source like others (context_freshness).

create table rollcall.context_access (
  only_row boolean primary key default true constraint context_access_is_one_row check (only_row),
  fingerprint bigint not null
);
comment on table rollcall.context_access is 'The policies and grants on the context engine''s sources that all bundles have been told of.';
-- No policies: the server's bookkeeping.
alter table rollcall.context_access enable row level security;

-- The policies and grants on everything that bundles are compiled from, and the functions that these policies call, in
-- one number. Rows of the catalogs are numbered by who wrote them, so that a change taken back is another one.
-- Definer: reads catalogs only.
create function rollcall.context_fingerprint() returns bigint
  language sql stable security definer set search_path = ''
as $$
  with source as (
    select c.oid, c.relrowsecurity, c.relforcerowsecurity, c.relacl
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relname in ('conversations', 'conversation_participants', 'messages',
      'atomic_chat_units', 'memories', 'custom_instructions', 'topic_profiles', 'entity_profiles', 'topic_conversations',
      'entity_conversations', 'topic_units', 'entity_units')
  ),
  policy as (
    select p.oid, p.xmin from pg_catalog.pg_policy p where p.polrelid in (select s.oid from source s)
  )
  select coalesce(sum(hashtextextended(part, 0) % 4294967296), 0)::bigint
  from (
    select s.oid::text || s.relrowsecurity::text || s.relforcerowsecurity::text || coalesce(s.relacl::text, '') as part from source s
    union all
    select p.oid::text || p.xmin::text from policy p
    union all
    -- Not by who wrote it: a grant on it is no other policy.
    select distinct f.oid::text || f.prosecdef::text || coalesce(f.proconfig::text, '') || coalesce(f.prosrc, '') || coalesce(f.prosqlbody::text, '')
    from policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
      and d.refclassid = 'pg_catalog.pg_proc'::regclass
    join pg_catalog.pg_proc f on f.oid = d.refobjid
  ) parts
$$;
insert into rollcall.context_access (fingerprint) values (rollcall.context_fingerprint());

-- Whether bundles may be believed: who may see what is as when they were told of it last.
-- Definer: reads a table that nobody else may; says nothing of anybody.
create function rollcall.context_access_holds() returns boolean
  language sql stable security definer set search_path = ''
as $$ select coalesce((select a.fingerprint = rollcall.context_fingerprint() from rollcall.context_access a), false) $$;
comment on function rollcall.context_access_holds is 'Whether policies and grants on the context engine''s sources are those that bundles know.';
grant execute on function rollcall.context_access_holds to authenticated, service_role;

-- Tells all bundles of changed policies or grants. They are flagged and not queued: nobody waits for all of them at once,
-- and each is compiled again when it is next wanted. A compilation that read under the old ones finds the mark.
-- Definer: bundles are the server's; for the server.
create function rollcall.settle_access() returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_fingerprint bigint;
  v_count bigint;
begin
  if rollcall.context_access_holds() then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0));
  v_fingerprint := rollcall.context_fingerprint();
  insert into rollcall.context_access as a (only_row, fingerprint) values (true, v_fingerprint)
    on conflict (only_row) do update set fingerprint = excluded.fingerprint where a.fingerprint <> excluded.fingerprint;
  if not found then
    return 0;
  end if;
  -- For what was read before and is stored later, and for bundles that somebody holds at this moment.
  insert into rollcall.context_marks (kind, key) values ('all', '00000000-0000-0000-0000-000000000000');
  update public.context_bundles b set dirty = true, miss_count = b.miss_count + 1
  from (select f.id from public.context_bundles f where not f.dirty order by f.id for no key update skip locked) free
  where b.id = free.id;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall.settle_access is 'Flags all bundles where policies or grants have changed; returns how many.';
grant execute on function rollcall.settle_access to service_role;

-- The caller's bundles about some things: each one's content where it is fresh, else its sources and why not.
-- $1: [{"type", "ref" of topic, entity or conversation}]; p_force treats all as not fresh. In the order of the list.
-- One statement sees one snapshot, so what is called fresh here is as new as everything else in the answer.
-- Invoker: see bundle_sources.
create or replace function rollcall.wanted_bundles(p_wanted jsonb, p_force boolean default false) returns jsonb
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_holds constant boolean := rollcall.context_access_holds();
  v_item jsonb;
  v_type public.bundle_type;
  v_ref uuid;
  v_bundle public.context_bundles;
  v_reason text;
  v_all jsonb := '[]';
begin
  for v_item in select w from jsonb_array_elements(p_wanted) with ordinality a (w, n) order by n loop
    v_type := (v_item ->> 'type')::public.bundle_type;
    v_ref := (v_item ->> 'ref')::uuid;
    v_bundle := null;
    case v_type
      when 'topic' then
        select * into v_bundle from public.context_bundles b
        where b.topic_id = v_ref and b.user_id = v_me and b.persona_id is null;
      when 'entity' then
        select * into v_bundle from public.context_bundles b
        where b.entity_id = v_ref and b.user_id = v_me and b.persona_id is null;
      when 'conversation' then
        select * into v_bundle from public.context_bundles b
        where b.conversation_id = v_ref and b.user_id = v_me and b.persona_id is null;
      else
        select * into v_bundle from public.context_bundles b
        where b.user_id = v_me and b.bundle_type = v_type and b.persona_id is null
          and b.topic_id is null and b.entity_id is null and b.conversation_id is null;
    end case;
    v_reason := case
      when v_bundle.id is null then 'missing'
      when p_force then 'forced'
      when v_bundle.dirty or not v_holds then 'dirty'
      when v_bundle.expires_at <= clock_timestamp() then 'expired'
      when not rollcall.my_bundle_is_fresh(v_bundle.id) then 'dirty'
      -- Under the policies of this moment: they may decide by more than membership.
      when v_type = 'conversation' and not exists (select from public.conversations c where c.id = v_ref) then 'dirty'
      else 'fresh' end;
    v_all := v_all || jsonb_build_array(jsonb_build_object('type', v_type, 'ref', v_ref, 'reason', v_reason, 'id', v_bundle.id)
      || case when v_reason = 'fresh' then jsonb_build_object('content', v_bundle.content, 'tokens', v_bundle.token_count,
          'version', v_bundle.version, 'unit_ids', v_bundle.unit_ids, 'memory_ids', v_bundle.memory_ids,
          'compiled_at', v_bundle.compiled_at)
        else jsonb_build_object('sources', case v_type
          when 'topic' then rollcall.bundle_sources('topic', p_topic => v_ref)
          when 'entity' then rollcall.bundle_sources('entity', p_entity => v_ref)
          when 'conversation' then rollcall.bundle_sources('conversation', p_conversation => v_ref)
          else rollcall.bundle_sources(v_type) end)
        end);
  end loop;
  return v_all;
end
$$;

revoke execute on all functions in schema rollcall from public;
