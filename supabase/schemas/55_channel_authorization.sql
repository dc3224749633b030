-- Module: channels
-- Private channels: how the server evaluates the policies on realtime.messages, and how it learns that a decision may
-- differ. Policies are evaluated by a probe that is rolled back; nothing here decides. Every transaction that changes
-- something a decision depends on notifies `rollcall_rights`.

-- Evaluated as each caller: reads are rows of ours that it sees, writes are rows that it inserts. Call it in a
-- transaction that is rolled back. A policy that raises for one caller, or a role that does not exist, yields one row
-- with `error` for that caller only, and with `message` if a policy raised it. The i-th caller asks about
-- p_topics[p_topic[i]]; callers with equal roles one after the other save planning.
-- Invoker: it assumes the callers' roles, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies: each caller's role sets its own.
-- Over 60 lines: reads and writes of one caller share the role and the error handling.
create function rollcall_internal.probe_channels(
  p_topics text[], p_topic int[], p_role text[], p_sub text[], p_claims text[], p_headers text[], p_read boolean[],
  p_write boolean[]
) returns table (
  caller int, broadcast_read boolean, presence_read boolean, broadcast_write boolean, presence_write boolean,
  error text, message text
)
  language plpgsql volatile security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  -- Of each role once, before any role is assumed.
  v_paths constant pg_catalog.text[] := array(
    select p.path
    from pg_catalog.unnest(p_role) with ordinality as o (role, place)
    join (
      select d.role, rollcall.role_search_path(d.role) as path
        from (select distinct pg_catalog.unnest(p_role) as role) d offset 0
    ) p using (role)
    order by o.place
  );
  v_at constant timestamp := clock_timestamp() at time zone 'utc';
  v_broadcast constant pg_catalog.uuid[] := array(select gen_random_uuid() from pg_catalog.unnest(p_topics));
  v_presence constant pg_catalog.uuid[] := array(select gen_random_uuid() from pg_catalog.unnest(p_topics));
  v_messages constant pg_catalog.regclass := 'realtime.messages';
  -- A refusal by a policy and an error inside a policy, such as a missing grant on a table that it reads, have the
  -- same SQLSTATE. The message tells them apart; in other languages than English it names the table.
  v_refusal constant pg_catalog.text := case
    when current_setting('lc_messages') ~* '^(c|posix|en)' then '%row-level security%'
    else '%"messages"%' end;
  v_topic pg_catalog.text;
  v_has_role boolean;
  v_may_select boolean;
  v_may_insert boolean;
begin
  perform set_config('rollcall.probe', 'on', true);
  if true = any (p_read) then
    insert into realtime.messages (id, topic, extension, private, inserted_at, updated_at)
      select row.id, probe.topic, row.extension, false, v_at, v_at
      from unnest(p_topics, v_broadcast, v_presence) as probe (topic, broadcast_id, presence_id)
      cross join lateral (values (broadcast_id, 'broadcast'), (presence_id, 'presence')) as row (id, extension);
  end if;

  for i in 1 .. pg_catalog.cardinality(p_role) loop
    begin
      v_has_role := false;
      v_topic := p_topics[p_topic[i]];
      -- `none` resets the role to the session's own.
      perform set_config('role', case p_role[i] when 'none' then '' else p_role[i] end, true),
        set_config('search_path', v_paths[i], true),
        set_config('realtime.topic', v_topic, true),
        set_config('request.jwt.claims', p_claims[i], true),
        set_config('request.jwt.claim.sub', coalesce(p_sub[i], ''), true),
        set_config('request.jwt.claim.role', p_role[i], true),
        set_config('request.headers', p_headers[i], true);
      v_has_role := true;
      v_may_select := has_table_privilege(v_messages, 'select');
      v_may_insert := has_table_privilege(v_messages, 'insert');
      caller := i; error := null; message := null;
      broadcast_read := null; presence_read := null; broadcast_write := null; presence_write := null;
      if p_read[i] then
        select coalesce(bool_or(m.extension = 'broadcast'), false), coalesce(bool_or(m.extension = 'presence'), false)
          into broadcast_read, presence_read
          from realtime.messages m
          where m.id in (v_broadcast[p_topic[i]], v_presence[p_topic[i]]) and m.inserted_at = v_at;
      end if;
      if p_write[i] then
        -- Both in one statement, because most callers may do both or neither; each alone only where that is refused.
        begin
          insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
            values (v_topic, 'broadcast', false, v_at, v_at), (v_topic, 'presence', false, v_at, v_at);
          broadcast_write := true; presence_write := true;
        exception when insufficient_privilege then
          begin
            insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
              values (v_topic, 'broadcast', false, v_at, v_at);
            broadcast_write := true;
          exception when insufficient_privilege then
            if v_may_insert and sqlerrm not like v_refusal then
              raise;
            end if;
            broadcast_write := false;
          end;
          begin
            insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
              values (v_topic, 'presence', false, v_at, v_at);
            presence_write := true;
          exception when insufficient_privilege then
            if v_may_insert and sqlerrm not like v_refusal then
              raise;
            end if;
            presence_write := false;
          end;
        end;
      end if;
    exception when others then
      broadcast_read := null; presence_read := null; broadcast_write := null; presence_write := null;
      caller := i; error := sqlstate;
      -- No message without the role, or without a grant to read.
      message := case when v_has_role and (sqlstate <> '42501' or v_may_select) then sqlerrm end;
    end;
    return next;
  end loop;
  perform set_config('role', 'none', true), set_config('search_path', v_own_path, true),
    set_config('rollcall.probe', '', true);
end
$$;
comment on function rollcall_internal.probe_channels is
  'What each of several callers may do in a private channel, evaluated by its policies.';

-- `p_claims` as in the token of a subscriber, `p_topic` without `realtime:`. One row per action and reason; `allowed`
-- is equal in all rows of an action. The row of the probe has the topic, the extension, and no payload.
-- Invoker: it assumes the subscriber's role, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies.
-- Over 60 lines: the probe, and each policy alone.
create function rollcall.explain_channel(p_claims jsonb, p_topic text)
  returns table (action text, allowed boolean, reason text)
  language plpgsql volatile security invoker
as $$
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_own_role constant pg_catalog.text := current_setting('role');
  v_role constant pg_catalog.text := coalesce(p_claims ->> 'role', 'anon');
  v_messages constant pg_catalog.regclass := 'realtime.messages';
  v_oid constant pg_catalog.oid := (select r.oid from pg_catalog.pg_roles r where r.rolname = v_role);
  v_probe record;
  v_policy record;
  v_action record;
  v_reasons pg_catalog.text[];
  v_holds boolean;
begin
  if v_oid is null then
    return query select a.name, false, pg_catalog.format('there is no role %s', v_role)
      from pg_catalog.unnest(array['read broadcast', 'read presence', 'write broadcast', 'write presence']) as a (name);
    return;
  end if;
  begin
    select * into v_probe
      from rollcall_internal.probe_channels(array[p_topic], array[1], array[v_role], array[p_claims ->> 'sub'],
        array[p_claims::pg_catalog.text], array['{}'], array[true], array[true]);
    raise exception using errcode = 'ZZ999';
  exception
    when sqlstate 'ZZ999' then
      -- The rows of the probe are gone.
    when others then
      select false as broadcast_read, false as presence_read, false as broadcast_write, false as presence_write,
        sqlstate as error, sqlerrm as message into v_probe;
  end;

  for v_action in
    select a.name, a.extension, a.command, a.allowed
    from (values
      ('read broadcast', 'broadcast', 'r', v_probe.broadcast_read),
      ('read presence', 'presence', 'r', v_probe.presence_read),
      ('write broadcast', 'broadcast', 'a', v_probe.broadcast_write),
      ('write presence', 'presence', 'a', v_probe.presence_write)
    ) as a (name, extension, command, allowed)
  loop
    v_reasons := case
      when v_probe.message is not null then
        array[pg_catalog.format('the evaluation raises %s: %s', v_probe.error, v_probe.message)]
      when v_probe.error is not null then
        array[pg_catalog.format('the role %s may not be assumed, or not use the table: %s', v_role, v_probe.error)]
      else '{}' end;
    if not has_table_privilege(v_oid, v_messages, case v_action.command when 'r' then 'select' else 'insert' end) then
      v_reasons := v_reasons || pg_catalog.format('the role %s may not %s realtime.messages (grants)', v_role,
        case v_action.command when 'r' then 'select' else 'insert into' end);
    elsif (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.oid = v_oid) then
      v_reasons := v_reasons || pg_catalog.format('row-level security does not bind the role %s', v_role);
    end if;
    -- Each policy that applies, alone, as the subscriber.
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    for v_policy in
      select p.polname, case when p.polpermissive then 'permissive' else 'restrictive' end as kind,
        pg_get_expr(case when p.polcmd in ('a', '*') and v_action.command = 'a' then coalesce(p.polwithcheck, p.polqual)
          else p.polqual end, p.polrelid) as condition
      from pg_catalog.pg_policy p
      where p.polrelid = v_messages and p.polcmd::pg_catalog.text in (v_action.command, '*')
        and rollcall_internal.policy_applies(p.polroles, v_oid)
      order by p.polpermissive, p.polname
    loop
      begin
        perform set_config('search_path', rollcall.role_search_path(v_role), true), set_config('role', v_role, true),
          set_config('realtime.topic', p_topic, true), set_config('request.jwt.claims', p_claims::pg_catalog.text,
            true),
          set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
          set_config('request.jwt.claim.role', v_role, true), set_config('request.headers', '{}', true);
        execute pg_catalog.format(
            'select coalesce(%s, false) from pg_catalog.jsonb_populate_record(null::realtime.messages, $1) as messages',
            coalesce(v_policy.condition, 'true')) into v_holds
          using pg_catalog.jsonb_build_object('id', gen_random_uuid(), 'topic', p_topic, 'extension',
            v_action.extension,
            'private', false, 'inserted_at', localtimestamp, 'updated_at', localtimestamp);
        v_reasons := v_reasons || pg_catalog.format('the %s policy "%s" %s', v_policy.kind, v_policy.polname,
          case when v_holds then 'allows it' else 'does not allow it' end);
      exception when others then
        -- As text, a policy may need rights that it does not need in the table, such as usage of a function's schema.
        v_reasons := v_reasons || case
          when (sqlstate, sqlerrm) = (v_probe.error, v_probe.message) then
            pg_catalog.format('the policy "%s" on realtime.messages raises %s for the role %s: %s', v_policy.polname,
              sqlstate,
              v_role, sqlerrm)
          else pg_catalog.format('the %s policy "%s" cannot be evaluated alone', v_policy.kind, v_policy.polname) end;
      end;
      -- The next policies are read with this path, which qualifies the names in their text.
      perform set_config('role', v_own_role, true), set_config('search_path', 'pg_catalog, pg_temp', true);
    end loop;
    perform set_config('search_path', v_own_path, true);
    if pg_catalog.cardinality(v_reasons) = 0 then
      v_reasons := array[pg_catalog.format('no policy on realtime.messages allows it for the role %s', v_role)];
    end if;
    return query select v_action.name, coalesce(v_action.allowed, false), r.reason
      from pg_catalog.unnest(v_reasons) as r (reason);
  end loop;
end
$$;
comment on function rollcall.explain_channel is
  'Why a subscriber may read or write broadcasts and presence of a private channel, or not.';

-- What a decision depends on ------------------------------------------------------------------------------------------

-- Notifies `<what>|<mark><masked hashes>`, or `<what>|` for null, none, and more than 500 hashes. The mark `=` says
-- that callers without these hashes are not concerned.
-- Invoker: see invalidate_authorization_for.
create function rollcall_internal.notify_authorization(p_what text, p_mark text, p_hashes text[]) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_what constant pg_catalog.text := pg_catalog.left(pg_catalog.replace(p_what, '|', ' '), 200);
  v_nonce pg_catalog.text;
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(p_hashes) between 1 and 500 then
    v_nonce := rollcall_internal.notification_nonce();
    v_void := rollcall_internal.notify('rollcall_rights',
      v_what || '|' || p_mark || pg_catalog.array_to_string(rollcall_internal.mask(v_nonce, p_hashes), ','), v_nonce);
  else
    v_void := rollcall_internal.notify('rollcall_rights', v_what || '|');
  end if;
end
$$;
comment on function rollcall_internal.notify_authorization is
  'Tells the nodes which callers of private channels a change concerns.';

-- Notifies `<what>|<masked hashes>`. Hashes are the first four bytes of SHA-256 values, in hexadecimal, of
-- values in the changed rows; callers whose user or topic has one of these hashes are evaluated first. Without hashes
-- all are evaluated at once.
-- Definer: called from triggers of any writer.
create function rollcall.invalidate_channel_authorization(p_what text, p_hashes text[] default '{}') returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.notify_authorization(p_what, '', case when not exists (
    select from unnest(p_hashes) as hashes (hash) where hashes.hash !~ '^[0-9a-f]{8}$' or hashes.hash is null
  ) then p_hashes end);
end
$$;
comment on function rollcall.invalidate_channel_authorization is
  'Makes every node evaluate the policies of private channels again.';
grant execute on function rollcall.invalidate_channel_authorization to service_role;

-- Invoker: computes from its argument.
create function rollcall_internal.value_hash(p_value text) returns text
  language sql immutable security invoker
as $$
  select pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p_value, 'UTF8')), 'hex'), 8)
$$;
comment on function rollcall_internal.value_hash is 'The first four bytes of the SHA-256 of a text, in hexadecimal.';

-- Invoker: computes from its arguments.
create function rollcall_internal.value_hashes(p_rows jsonb[]) returns text[]
  language plpgsql immutable security invoker
as $$
begin
  return case when pg_catalog.cardinality(p_rows) <= 100 then array(
    select distinct rollcall_internal.value_hash(field.value)
    from pg_catalog.unnest(p_rows) as changed (fields)
    cross join lateral pg_catalog.jsonb_each_text(changed.fields) field
    where pg_catalog.length(field.value) between 1 and 200
  ) else '{}' end;
end
$$;
comment on function rollcall_internal.value_hashes is
  'Hashes of the values in some rows; none for more than 100 rows, which stands for all callers.';

-- p_rows are the changed rows, at most 101 of them, or null if they are not known. p_named are the columns that name
-- whom a row concerns; without them, it may concern all.
-- Invoker, with the search_path of its caller, because it costs less in the transactions of applications: only trigger
-- functions call it.
create function rollcall_internal.invalidate_authorization_for(
  p_table regclass, p_source text, p_rows jsonb[], p_named text[]
) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_fields pg_catalog.jsonb;
  v_name pg_catalog.text;
  v_hash pg_catalog.text;
  v_hashes pg_catalog.text[] := '{}';
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(p_rows) = 0 then
    return;
  end if;
  if pg_catalog.cardinality(p_rows) <= 100 then
    if p_named <> '{}' and p_rows[1] ?& p_named then
      foreach v_fields in array p_rows loop
        foreach v_name in array p_named loop
          v_hash := rollcall_internal.value_hash(v_fields ->> v_name);
          if v_hash is not null and v_hash <> all (v_hashes) then
            v_hashes := v_hashes || v_hash;
          end if;
        end loop;
      end loop;
      if v_hashes <> '{}' then
        v_void := rollcall_internal.notify_authorization(p_source, '=', v_hashes);
      end if;
      return;
    end if;
    if not rollcall_internal.has_virtual_column(p_table) then
      v_hashes := rollcall_internal.value_hashes(p_rows);
    end if;
  end if;
  v_void := rollcall_internal.notify_authorization(p_source, '', v_hashes);
end
$$;
comment on function rollcall_internal.invalidate_authorization_for is
  'Makes every node evaluate the policies of private channels again for those whom changed rows concern.';

-- Arguments: see p_named of invalidate_authorization_for.
-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_inserted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.invalidate_authorization_for(tg_relid, tg_table_schema || '.' || tg_table_name,
    array(select to_jsonb(n) from new_rows n limit 101), tg_argv[0 : tg_nargs - 1]);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_inserted is
  'Trigger function: rows inserted in a table that channel policies read invalidate authorization.';

-- A statement that changes no value is ignored. Arguments: the number of columns in p_named of
-- invalidate_authorization_for, these columns, and the columns that matter; none stands for all. The hashes are those
-- of the whole row, as the column with the user or topic need not have changed.
-- Definer: see invalidate_channel_authorization. Column names come from the catalog.
create function rollcall_internal.on_authorization_source_updated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_named text[];
  v_columns text[];
  v_before text[];
  v_after text[];
  v_rows jsonb[];
  v_void text;
begin
  -- An error here must not fail the statement of the application.
  begin
    v_named := tg_argv[1 : tg_argv[0]::integer];
    v_columns := tg_argv[tg_argv[0]::integer + 1 : tg_nargs - 1];
    if v_columns = '{}' then
      v_rows := array(
        (select to_jsonb(n) from new_rows n except all select to_jsonb(o) from old_rows o limit 51)
        union all
        (select to_jsonb(o) from old_rows o except all select to_jsonb(n) from new_rows n limit 51));
    -- Triggers read virtual generated columns as null.
    elsif not rollcall_internal.has_virtual_column(tg_relid, v_columns) then
      execute rollcall_internal.transitions_as_text(v_columns) into v_before, v_after;
      if v_before is not distinct from v_after then
        return null;
      end if;
      if cardinality(v_after) <= 1000 then
        v_rows := array(
          (select to_jsonb(n.r) from (select r, row_number() over () as n from new_rows r) as n (r, n)
            where v_before[n.n] is distinct from v_after[n.n] limit 51)
          union all
          (select to_jsonb(o.r) from (select r, row_number() over () as n from old_rows r) as o (r, n)
            where v_before[o.n] is distinct from v_after[o.n] limit 51));
      end if;
    end if;
  exception when others then
    v_rows := null;
  end;
  v_void := rollcall_internal.invalidate_authorization_for(tg_relid, tg_table_schema || '.' || tg_table_name, v_rows,
    v_named);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_updated is
  'Trigger function: rows updated in a table that channel policies read invalidate authorization.';

-- Arguments: see p_named of invalidate_authorization_for.
-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_deleted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.invalidate_authorization_for(tg_relid, tg_table_schema || '.' || tg_table_name,
    array(select to_jsonb(o) from old_rows o limit 101), tg_argv[0 : tg_nargs - 1]);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_deleted is
  'Trigger function: rows deleted in a table that channel policies read invalidate authorization.';

-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_truncated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall.invalidate_channel_authorization(tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_truncated is
  'Trigger function: truncating a table that channel policies read invalidates authorization.';

-- Functions of Rollcall are examined, because policies on realtime.messages may call them; functions in `realtime` are
-- not.
-- Definer: reads catalogs only.
create function rollcall.authorization_sources() returns setof regclass
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.policy_sources('authorization')
$$;
comment on function rollcall.authorization_sources is 'Tables that decide who may use private channels.';

-- Updates count if they change one of these columns, null stands for all. p_pairs names the users and topics that a row
-- concerns, as in concerned_columns. Returns false if the table was followed before, or if
-- rollcall.watch_authorization_source (p_is_declared) declared how.
-- Invoker: needs the right to create triggers on that table.
create function rollcall_internal.follow_authorization_source(
  p_table regclass, p_columns text[], p_pairs jsonb default null, p_is_declared boolean default false
) returns boolean
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns constant text[] := array(select c.name from unnest(p_columns) c (name) order by c.name);
  -- No column has an empty name.
  v_declared constant text[] := array['', 'declared'];
  -- The user alone names fewer callers than the topic.
  v_named constant text[] := array(
    select distinct coalesce(p.sides ->> 0, p.sides ->> 1) as name from jsonb_array_elements(p_pairs) as p (sides)
    order by name);
  v_is_followed constant boolean := exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = p_table and t.tgname = 'rollcall_authorization_truncate');
begin
  if not p_is_declared and exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = p_table and t.tgname = 'rollcall_authorization_insert'
      and t.tgargs = rollcall_internal.trigger_arguments(v_declared))
  then
    return false;
  end if;
  perform rollcall_internal.set_triggers(p_table, '^rollcall_authorization_', jsonb_build_array(
    jsonb_build_object('name', 'rollcall_authorization_insert', 'events', 'insert',
      'function', 'on_authorization_source_inserted',
      'arguments', case when p_is_declared then v_declared else v_named end),
    case when p_columns is distinct from '{}' then
      jsonb_build_object('name', 'rollcall_authorization_update', 'events', 'update',
        'function', 'on_authorization_source_updated',
        'arguments', cardinality(v_named)::text || v_named || v_columns) end,
    jsonb_build_object('name', 'rollcall_authorization_delete', 'events', 'delete',
      'function', 'on_authorization_source_deleted', 'arguments', v_named),
    jsonb_build_object('name', 'rollcall_authorization_truncate', 'events', 'truncate',
      'function', 'on_authorization_source_truncated', 'arguments', '{}'::text[])));
  return not v_is_followed;
end
$$;
comment on function rollcall_internal.follow_authorization_source is
  'Makes open private channels follow rows, and updates of some columns, of a table that decides who may use them.';

-- Tables that policies mention are followed automatically; call it for a table that only the text of a function names.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_authorization_source(p_table regclass) returns boolean
  language sql security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.follow_authorization_source(p_table, null, null, true)
$$;
comment on function rollcall.watch_authorization_source is
  'Makes open private channels follow a table that decides who may use them; false when it is followed already.';
grant execute on function rollcall.watch_authorization_source to service_role;

-- Definer: the owner may create triggers on tables that it owns; doctor reports the others.
create function rollcall.watch_authorization_sources() returns setof regclass
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_columns text[];
begin
  -- One analysis at a time, so that each sees what the others committed.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.watch_sources', 0));
  perform rollcall_internal.examine_policies('authorization');
  for v_table in select s from rollcall.authorization_sources() s loop
    v_columns := rollcall_internal.columns_in_policies('authorization', v_table);
    begin
      if rollcall_internal.follow_authorization_source(v_table, v_columns,
        rollcall_internal.concerned_columns('authorization', v_table, v_columns))
      then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open private channels only when something else changes',
        v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_authorization_sources();', v_table,
          current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_authorization_sources is
  'Follows every table that policies on realtime.messages depend on; returns the tables that were added.';

-- Then a decision may change without a change of data. Found by text, so it may be true without need.
-- Definer: reads catalogs only.
create function rollcall_internal.authorization_depends_on_time() returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with asked (text) as (
    select concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_catalog.pg_policy p
    where p.polrelid = to_regclass('realtime.messages')
  )
  select exists (
    select from (
      select a.text from asked a
      union all
      select f.prosrc
      from pg_catalog.pg_proc f
      join pg_catalog.pg_namespace s on s.oid = f.pronamespace
        and s.nspname !~ '^pg_' and s.nspname not in ('information_schema', 'realtime', 'auth')
      where exists (select from asked a where position(f.proname || '(' in a.text) > 0)
    ) texts
    where texts.text ~* ('(now|clock_timestamp|transaction_timestamp|statement_timestamp|timeofday)\('
      '|current_(date|time)|localtime|''now''')
  )
$$;
comment on function rollcall_internal.authorization_depends_on_time is
  'Whether policies on realtime.messages, or functions they call, read the time.';

-- Definer: runs for any role that issues DDL.
create function rollcall_internal.on_authorization_ddl() returns event_trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Objects of Rollcall may be missing while they are dropped together.
  if to_regclass('realtime.messages') is null
    or to_regprocedure('rollcall.invalidate_channel_authorization(text, text[])') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE',
      'ALTER ROUTINE', 'DROP ROUTINE', 'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW',
      'ALTER MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE',
      'DROP TYPE', 'DROP SCHEMA', 'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    perform rollcall.invalidate_channel_authorization(lower(tg_tag));
  end if;
  -- A table may be created after the function that reads it, and a partition after its parent.
  if tg_tag = any (rollcall_internal.tags_of_new_dependencies())
    and rollcall_internal.ddl_concerns_policies('authorization')
  then
    perform rollcall.watch_authorization_sources();
  end if;
end
$$;
comment on function rollcall_internal.on_authorization_ddl is
  'Event trigger function: DDL invalidates the authorization of private channels.';
