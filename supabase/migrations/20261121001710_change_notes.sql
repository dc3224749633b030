-- What of a table's changes will never come to a role, and why: said to subscribers when they subscribe, and to whoever asks
-- for an explanation.
-- Invariant: nothing here decides anything; each note repeats a decision that is made elsewhere.

-- One row a note; none if everything may come. Invoker: reads catalogues that everybody may read.
create function rollcall.change_notes(p_relation oid, p_role text) returns setof text
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with found as (
    select a.*, p_relation::regclass::text as shown, a.is_secured and not a.is_exempt as is_bound,
      coalesce(a.condition = 'false' or a.owner_columns = '{}', false) as is_barred
    from rollcall.change_access(array[p_relation], array[p_role]) a
  )
  select note.says
  from found f
  left join lateral (
    select string_agg(name, ', ') as columns
    from unnest(f.reads) as read (name)
    where not exists (
      select from pg_catalog.pg_class c
      left join pg_catalog.pg_index i on i.indrelid = c.oid
        and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = read.name
      where c.oid = p_relation and (c.relreplident = 'f' or a.attnum = any (i.indkey::int2[]))
    )
  ) unknown on true
  left join lateral (
    select nullif(concat_ws(', ', case when not p.pubinsert then 'INSERT' end, case when not p.pubupdate then 'UPDATE' end,
      case when not p.pubdelete then 'DELETE' end), '') as left_out,
      (select t.rowfilter from pg_catalog.pg_publication_tables t
       join pg_catalog.pg_namespace n on n.nspname = t.schemaname
       join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
       where t.pubname = p.pubname and c.oid = p_relation) as rowfilter
    from pg_catalog.pg_publication p
    where p.pubname = 'supabase_realtime'
  ) published on true
  cross join lateral (values
    (not f.is_known, format('there is no role %s', p_role)),
    (f.is_known and (f.columns = '{}' or not f.key <@ f.columns),
      format('the role %s may not select the primary key of %s: its changes come as errors, once', p_role, f.shown)),
    (f.key = '{}', format('%s has no primary key: its INSERTs and UPDATEs come as errors, once', f.shown)),
    (f.is_bound and f.is_barred,
      format('row-level security of %s is on, and no policy lets the role %s select: none of its INSERTs and UPDATEs come', f.shown, p_role)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and f.condition is null,
      format('no DELETE of %s comes: its policies take the row as a whole, and cannot be asked about one that is gone', f.shown)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and unknown.columns is not null,
      format('no DELETE of %1$s comes: policies read %2$s, which is not in its replica identity (alter table %1$s replica identity full)',
        f.shown, unknown.columns)),
    (published.left_out is not null, format('the publication supabase_realtime does not publish %s', published.left_out)),
    (published.rowfilter is not null, format('of %s the publication supabase_realtime publishes only rows with %s', f.shown, published.rowfilter))
  ) as note (is_so, says)
  where note.is_so;
end
$$;
comment on function rollcall.change_notes is 'What of a table''s changes never comes to a role, and why.';

-- `p_claims` as in the subscriber's token, `p_key` the primary key as an object, `p_filter` one condition of the
-- subscription (`column=op.value`), if it has any. One row a reason; `told` is the same in all of them. As before, and with
-- what will never come besides (rollcall.change_notes).
-- Invoker: it takes on the subscriber's role, which only the login role of the server can. Not for API roles.
create or replace function rollcall.explain_change(p_claims jsonb, p_relation regclass, p_key jsonb, p_filter text default '')
  returns table (told boolean, reason text)
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_role constant text := coalesce(p_claims ->> 'role', 'anon');
  -- Under the table's own name, by which policies call its columns.
  v_name constant text := (select quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = p_relation);
  v_oid oid;
  v_access record;
  v_where text;
  v_exists boolean;
  v_told boolean;
  v_filter text[];
  v_type oid;
  v_value text;
  v_holds boolean;
  v_policy record;
  v_reasons text[] := '{}';
begin
  if not exists (select from rollcall.published_tables('*', '*') p where p.relation = p_relation) then
    return query select false, format('%s is not in the publication supabase_realtime', p_relation);
    return;
  end if;
  select * into v_access from rollcall.change_access(array[p_relation::oid], array[v_role]);
  if not v_access.is_known then
    return query select false, format('there is no role %s', v_role);
    return;
  elsif cardinality(v_access.key) = 0 then
    return query select false, format('%s has no primary key', p_relation);
    return;
  elsif not v_access.key <@ v_access.columns then
    return query select false,
      format('the role %s may not select the primary key of %s (grants)', v_role, p_relation);
    return;
  end if;
  select format('from %s as %s where ', v_access.qualified, v_name)
      || string_agg(format('%s.%I = %L::%s', v_name, k.name, p_key ->> k.name, k.of), ' and ') into v_where
    from unnest(v_access.key, v_access.key_types) as k (name, of);
  execute format('select exists (select %s)', v_where) into v_exists;
  if not v_exists then
    return query select false, 'there is no such row (any more)';
    return;
  end if;

  if p_filter <> '' then
    v_filter := regexp_match(p_filter, '^([^=]+)=(not\.)?([a-z]+)\.(.*)$');
    if v_filter is null or not v_filter[1] = any (v_access.columns) then
      return query select false, format('the filter %s names no column that the role may select', p_filter);
      return;
    end if;
    select atttypid into v_type from pg_catalog.pg_attribute where attrelid = p_relation and attname = v_filter[1];
    execute format('select %s.%I::text %s', v_name, v_filter[1], v_where) into v_value;
    if v_filter[3] = 'is' then
      v_holds := coalesce(v_value, 'null') = replace(v_filter[4], 'unknown', 'null');
      v_holds := v_holds <> (v_filter[2] is not null);
    else
      v_holds := (rollcall.filter_holds(v_type, v_filter[3], v_filter[2] is not null,
        case when v_filter[3] = 'in' then '{' || trim(both '()' from v_filter[4]) || '}' else v_filter[4] end,
        array[v_value]))[1];
    end if;
    if not v_holds then
      return query select false, format('the filter %s does not hold', p_filter);
      return;
    end if;
  end if;

  if v_access.is_exempt then
    return query select true, case
      when v_access.is_secured then format('row-level security does not bind the role %s', v_role)
      else format('%s has no row-level security, and the role %s may select it', p_relation, v_role)
    end
    union all
    select true, n from rollcall.change_notes(p_relation, v_role) n;
    return;
  end if;

  perform set_config('request.jwt.claims', p_claims::text, true),
    set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
    set_config('request.jwt.claim.role', v_role, true);
  begin
    perform set_config('role', v_role, true);
    execute format('select exists (select %s)', v_where) into v_told;
    perform set_config('role', 'none', true);
  exception when others then
    perform set_config('role', 'none', true);
    return query select false, format('row-level security of %s raises for this subscriber: %s', p_relation, sqlerrm);
    return;
  end;
  -- What each policy that applies says of the row. What a policy reads elsewhere is read with our own rights here, so
  -- only the verdict above counts.
  select oid into v_oid from pg_catalog.pg_roles where rolname = v_role;
  for v_policy in
    select p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as condition
    from pg_catalog.pg_policy p
    where p.polrelid = p_relation and p.polcmd in ('r', '*')
      and rollcall.policy_binds(p.polroles, v_oid)
    order by p.polpermissive, p.polname
  loop
    begin
      execute format('select coalesce(%s, false) %s', coalesce(v_policy.condition, 'false'), v_where) into v_holds;
    exception when others then
      v_holds := null;
    end;
    v_reasons := v_reasons || format('the %s policy "%s" %s',
      case when v_policy.polpermissive then 'permissive' else 'restrictive' end, v_policy.polname,
      case when v_holds then 'lets it through' when v_holds is null then 'cannot be looked at alone'
        else 'does not let it through' end);
  end loop;
  if cardinality(v_reasons) = 0 then
    v_reasons := array[format('row-level security is on, and no policy lets the role %s select', v_role)];
  end if;
  return query select v_told, r.reason from unnest(v_reasons || array(select n from rollcall.change_notes(p_relation, v_role) n))
    as r (reason);
end
$$;
comment on function rollcall.explain_change is 'Why a change of a row would be told to a subscriber, or not.';

revoke execute on all functions in schema rollcall from public;
