-- Module: presence
-- Policies of our tables that raise an error, by name.

-- Evaluates each policy of the tables in the schema rollcall that applies to a role, alone, as a caller with these
-- claims, on up to 20 rows of its table. Returns the policies that raise. Data exceptions (class 22) are left out: they
-- depend on the values of a row. A policy that needs rights as text that it does not need in the table, such as usage
-- of a function's schema, is left out too, and so is a role that the session may not assume.
-- Invoker: it assumes the caller's role, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies.
create function rollcall_internal.failing_policies(p_role text, p_claims text)
  returns table (relation text, policy text, error text, message text)
  language plpgsql volatile security invoker
as $$
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_own_role constant pg_catalog.text := current_setting('role');
  v_own_claims constant pg_catalog.text := coalesce(current_setting('request.jwt.claims', true), '');
  v_path constant pg_catalog.text := rollcall.role_search_path(p_role);
  v_policy record;
  v_rows pg_catalog.text;
begin
  -- This path qualifies the names in the text of a policy.
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  for v_policy in
    select p.polname, c.relname, e.expression
    from pg_catalog.pg_policy p
    join pg_catalog.pg_class c on c.oid = p.polrelid and c.relnamespace = 'rollcall'::pg_catalog.regnamespace
    cross join lateral (
      select pg_catalog.pg_get_expr(x.node, p.polrelid) as expression
      from (values (p.polqual), (p.polwithcheck)) as x (node)
      where x.node is not null
    ) e
    where rollcall_internal.policy_applies(p.polroles, p_role::pg_catalog.regrole)
    order by c.relname, p.polname
  loop
    execute pg_catalog.format(
      'select pg_catalog.array_agg(t)::pg_catalog.text from (select * from rollcall.%I limit 20) t',
      v_policy.relname) into v_rows;
    begin
      perform set_config('request.jwt.claims', p_claims, true), set_config('search_path', v_path, true),
        set_config('role', p_role, true);
      execute pg_catalog.format('select pg_catalog.count(*) from pg_catalog.unnest($1::rollcall.%1$I[]) as %1$I
        where (%2$s)', v_policy.relname, v_policy.expression) using v_rows;
    exception when others then
      if sqlstate !~ '^22' and sqlerrm !~ '^permission denied (for schema|to set role)' then
        return query select 'rollcall.' || v_policy.relname, v_policy.polname::pg_catalog.text,
          sqlstate::pg_catalog.text, sqlerrm::pg_catalog.text;
      end if;
    end;
    perform set_config('role', v_own_role, true), set_config('search_path', 'pg_catalog, pg_temp', true);
  end loop;
  perform set_config('search_path', v_own_path, true), set_config('request.jwt.claims', v_own_claims, true);
end
$$;
comment on function rollcall_internal.failing_policies is 'Policies of the schema rollcall that raise for a caller.';
