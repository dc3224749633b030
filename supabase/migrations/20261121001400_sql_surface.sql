-- What a DBA asks and does in SQL: who is online, why somebody sees somebody, ending a user's sockets.
-- Invariant: nothing here decides who sees whom. Views show what the asking role may see, and an explanation is held
-- against what `select` as that viewer returns.

-- Who is online ----------------------------------------------------------------------------------------------------

create view rollcall.online with (security_invoker = true) as
  select distinct on (p.user_id)
    p.user_id, p.status, p.reach, p.custom_status, p.activity, p.current_page, p.last_seen, p.idle_since
  from public.user_presence p
  where p.reach <> 'offline'
  order by p.user_id, p.face desc;
comment on view rollcall.online is
  'Who is online, one row a user, as the asking role sees them: the owner and service_role see the trusted face.';

create view rollcall.online_devices with (security_invoker = true) as
  select
    d.user_id, d.device_id, d.device_name, d.device_type, d.platform, d.app_version, d.status,
    rollcall.any_node_lives(d.nodes) as connected, d.session_started_at, d.last_heartbeat_at, d.last_active_at,
    d.idle_since, d.activity, d.current_page
  from public.presence_devices d
  where d.live;
comment on view rollcall.online_devices is
  'Live devices; connected ones hold a socket, the others live on heartbeats. Users see their own.';

-- A browser's role gets what row-level security leaves of the tables behind.
revoke all on rollcall.online, rollcall.online_devices from anon, authenticated;
grant select on rollcall.online, rollcall.online_devices to authenticated, service_role;

-- Why somebody sees somebody ---------------------------------------------------------------------------------------

-- The rows and settings by which Rollcall's own policy decides between two users: the first of these that applies.
-- What it says is put into words only after the policy itself has been asked.
-- Definer: reads blocks, lists and settings of everybody; called by explain_visibility only, which is for the operator.
create function rollcall.visibility_evidence(p_viewer uuid, p_subject uuid)
  returns table (allows boolean, decided_by text, evidence jsonb, reason text)
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_row record;
  v_setting public.presence_visibility;
  v_default boolean := false;
begin
  if p_viewer = p_subject then
    return query select true, 'self', null::jsonb, 'users see their own trusted face';
    return;
  end if;

  select b.* into v_row from public.blocks b
    where (b.blocker_id, b.blocked_id) in ((p_viewer, p_subject), (p_subject, p_viewer))
    order by b.blocker_id = p_viewer desc limit 1;
  if found then
    return query select false, 'block', jsonb_build_object('table', 'blocks', 'row', to_jsonb(v_row)),
      case when v_row.blocker_id = p_viewer then 'the viewer has blocked the subject' else 'the subject has blocked the viewer' end
        || '; a block beats everything else';
    return;
  end if;

  select l.* into v_row from public.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = p_viewer;
  if found then
    return query select true, 'list', jsonb_build_object('table', 'presence_visibility_list', 'row', to_jsonb(v_row)),
      'the viewer is on the subject''s visibility list, and so sees the trusted face, whatever the settings';
    return;
  end if;

  select s.visibility into v_setting from public.presence_settings s where s.user_id = p_subject;
  if not found then
    v_setting := 'contacts';
    v_default := true;
  end if;
  if v_setting in ('nobody', 'everyone') then
    return query select v_setting = 'everyone', 'setting',
      jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting),
      format('the subject shows the public face to %s', v_setting);
    return;
  end if;

  if v_setting = 'contacts' then
    select c.* into v_row from public.contacts c
      where (c.requester_id, c.addressee_id) in ((p_viewer, p_subject), (p_subject, p_viewer))
      order by c.accepted_at is not null desc limit 1;
    if found then
      return query select v_row.accepted_at is not null, 'contact', jsonb_build_object('table', 'contacts', 'row', to_jsonb(v_row)),
        case when v_row.accepted_at is null then 'they are to be contacts, but nobody has accepted yet; the subject shows the public face to contacts'
          else 'they are contacts, and the subject shows the public face to contacts' end;
      return;
    end if;
  else
    select theirs.*, mine.accepted_at is not null and theirs.accepted_at is not null as counts into v_row
    from public.team_members mine
    join public.team_members theirs using (team_id)
    where mine.user_id = p_viewer and theirs.user_id = p_subject
    order by counts desc, theirs.team_id limit 1;
    if found then
      return query select v_row.counts, 'team', jsonb_build_object('table', 'team_members', 'row', to_jsonb(v_row) - 'counts'),
        case when v_row.counts then 'they share a team, and the subject shows the public face to team mates'
          else 'they would share a team, but one of them has not accepted; the subject shows the public face to team mates' end;
      return;
    end if;
  end if;
  return query select false, 'setting',
    jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting, 'default', v_default),
    format('the subject shows the public face to %s, and the viewer is none', case v_setting when 'team' then 'team mates' else 'contacts' end);
end
$$;

-- Says what a viewer sees of a subject and why: one row a face that the viewer sees, or one with `visible` false.
--   decided_by  self, block, list, setting, contact, team: by Rollcall's own policies, with the row or setting in
--               `evidence`; policy: by another one, named in `policy`; never_seen: there is nothing to see; grant: the
--               role may not read; error: a policy failed; row_level_security: it is switched off
--   policy      the policies that allow it, or the restrictive one that forbids it
-- Each policy is evaluated by itself, as the viewer, over the subject's row; what counts in the end is what `select` as
-- the viewer returns, and where the two differ `decided_by` says `policy` and names none.
-- Invoker: it takes on the viewer's role, which the session's login role must be a member of; a definer could not.
create function rollcall.explain_visibility(p_viewer uuid, p_subject uuid, p_claims jsonb default '{}')
  returns table (visible boolean, face public.presence_face, decided_by text, policy text, evidence jsonb, reason text)
  language plpgsql volatile security invoker set search_path = ''
as $$
#variable_conflict use_column
declare
  v_role constant text := current_setting('role');
  v_claims constant text := coalesce(current_setting('request.jwt.claims', true), '');
  v_ours constant text[] := array['a user sees the own trusted face', 'a viewer sees the one face that is shown to them'];
  v_row public.user_presence;
  v_policy record;
  v_seen public.presence_face[];
  v_verdict boolean;
  v_allows text[];
  v_forbids text[];
  v_using jsonb;
  v_fact record;
begin
  if not coalesce((select c.relrowsecurity from pg_catalog.pg_class c where c.oid = 'public.user_presence'::regclass), false) then
    return query select true, p.face, 'row_level_security', null::text, null::jsonb,
      'row-level security on user_presence is off: everybody who may read the table sees every face'
      from public.user_presence p where p.user_id = p_subject;
    return;
  end if;

  -- What the viewer really gets.
  begin
    perform set_config('request.jwt.claims',
        (p_claims || jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::text, true),
      set_config('role', 'authenticated', true);
    v_seen := array(select p.face from public.user_presence p where p.user_id = p_subject order by p.face);
    perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true);
  exception when insufficient_privilege then
    return query select false, null::public.presence_face, 'grant', null::text, null::jsonb, sqlerrm;
    return;
  when others then
    return query select false, null::public.presence_face, 'error', null::text, jsonb_build_object('sqlstate', sqlstate), sqlerrm;
    return;
  end;

  select e.* into v_fact from rollcall.visibility_evidence(p_viewer, p_subject) e;
  if not exists (select from public.user_presence p where p.user_id = p_subject) then
    return query select false, null::public.presence_face, 'never_seen', null::text, null::jsonb,
      'the subject was never here: there is nothing to see';
    return;
  end if;

  for v_row in
    select p.* from public.user_presence p
    where p.user_id = p_subject and (p.face = any (v_seen) or v_seen = '{}')
    order by p.face
  loop
    v_allows := '{}';
    v_forbids := '{}';
    v_using := '{}';
    for v_policy in
      select l.polname::text as name, l.polpermissive as permissive, pg_catalog.pg_get_expr(l.polqual, l.polrelid) as expression
      from pg_catalog.pg_policy l
      where l.polrelid = 'public.user_presence'::regclass and l.polcmd in ('r', '*')
        and exists (select from unnest(l.polroles) r where r = 0 or pg_catalog.pg_has_role('authenticated', r, 'usage'))
      order by l.polname
    loop
      begin
        perform set_config('request.jwt.claims',
            (p_claims || jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::text, true),
          set_config('role', 'authenticated', true);
        -- The row goes by the table's name, by which the expression knows it.
        execute format('select (%s) from (select ($1::public.user_presence).*) as user_presence', v_policy.expression)
          into v_verdict using v_row;
        perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true);
      exception when others then
        v_verdict := null;
      end;
      if v_policy.permissive and v_verdict then
        v_allows := v_allows || v_policy.name;
        v_using := v_using || jsonb_build_object(v_policy.name, v_policy.expression);
      elsif not v_policy.permissive and v_verdict is not true then
        v_forbids := v_forbids || v_policy.name;
        v_using := v_using || jsonb_build_object(v_policy.name, v_policy.expression);
      end if;
    end loop;

    if v_row.face = any (v_seen) then
      if v_allows && v_ours and v_fact.allows then
        return query select true, v_row.face, v_fact.decided_by, array_to_string(v_allows, ', '), v_fact.evidence, v_fact.reason;
      else
        return query select true, v_row.face, 'policy', nullif(array_to_string(v_allows, ', '), ''), v_using,
          case when v_allows = '{}' then 'row-level security allows it; which policy cannot be told from outside'
            else format('allowed by the policy %s', array_to_string(v_allows, ', ')) end;
      end if;
    elsif v_allows <> '{}' then
      return query select false, null::public.presence_face, 'policy', nullif(array_to_string(v_forbids, ', '), ''), v_using,
        format('the policy %s would allow it, but the restrictive policy %s does not',
          array_to_string(v_allows, ', '), coalesce(nullif(array_to_string(v_forbids, ', '), ''), 'that cannot be told from outside'));
      return;
    end if;
  end loop;

  if v_seen = '{}' then
    if v_fact.allows and exists (
      select from public.user_presence p
      where p.user_id = p_subject
        and p.face = (case when v_fact.decided_by in ('self', 'list') then 'trusted' else 'public' end)::public.presence_face
    ) then
      -- Rollcall's own policy would; it has been changed or dropped.
      return query select false, null::public.presence_face, 'policy', null::text, v_fact.evidence, 'no policy allows it';
    else
      return query select false, null::public.presence_face, v_fact.decided_by, null::text, v_fact.evidence,
        v_fact.reason || case when v_fact.allows then '; but there is no such face to see' else '' end;
    end if;
  end if;
end
$$;
comment on function rollcall.explain_visibility is
  'What a viewer sees of a subject, and which block, list, setting, relation or policy decides it.';
grant execute on function rollcall.explain_visibility to service_role;
grant execute on function rollcall.visibility_evidence to service_role;

-- Ending sockets ---------------------------------------------------------------------------------------------------

alter table rollcall.outbox drop constraint outbox_kind_is_known;
alter table rollcall.outbox
  add constraint outbox_kind_is_known check (kind in ('message', 'sign_off', 'disconnect'));

-- Closes every socket of a user on every node, with close code 4403 and this reason; returns how many devices were
-- connected. It keeps nobody out: a client may come back with a token that is still good. The devices go offline as
-- those of any closed socket do.
-- Definer: reads devices and nodes of any user; service_role only.
create function rollcall.disconnect(p_user uuid, p_reason text default 'disconnected by an administrator') returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- What a close frame has room for.
  if octet_length(p_reason) > 123 then
    raise exception 'the reason is longer than 123 bytes' using errcode = 'string_data_right_truncation';
  end if;
  perform rollcall.post('disconnect', array[p_user], json_build_object('reason', p_reason));
  return (select count(*) from public.presence_devices d where d.user_id = p_user and rollcall.any_node_lives(d.nodes));
end
$$;
comment on function rollcall.disconnect is 'Closes every socket of a user, on every node; returns how many devices were connected.';
grant execute on function rollcall.disconnect to service_role;

revoke execute on all functions in schema rollcall from public;
