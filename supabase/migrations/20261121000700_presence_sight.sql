-- How the server asks row-level security on behalf of many viewers at once.
-- Invariant: what a viewer is told is what `select` as that viewer returns. Nothing here decides who sees whom.

-- For each viewer, as that viewer: whom of its relations and of those it follows it sees, and how. With p_full[i]
-- about all of them, otherwise about those of p_scope that are among them. A policy that raises for one viewer
-- gives one row with `error` for that viewer and does not touch the others.
--   p_follow and p_scope are the viewers' lists one after the other; p_*_end[i] is where the i-th ends.
-- Returns for each viewer and candidate one row (face is null where the candidate is not visible), and one with a
-- conversation_id for each user whom the viewer may see type.
-- Invoker: it takes on the roles of the viewers, which only the login role of the server can. Not for API roles.
create function rollcall.look(
  p_role text[], p_claims text[], p_full boolean[],
  p_follow uuid[], p_follow_end int[], p_scope uuid[], p_scope_end int[]
) returns table (
  viewer int, user_id uuid, related boolean, face public.presence_face, status public.presence_status,
  reach public.presence_reach, last_seen timestamptz, custom_status text, activity text, current_page text,
  idle_since timestamptz, version bigint, conversation_id uuid, error text
)
  language plpgsql volatile security invoker set search_path = ''
as $$
#variable_conflict use_column
declare
  v_follow uuid[];
  v_scope uuid[];
begin
  for i in 1 .. cardinality(p_role) loop
    v_follow := p_follow[coalesce(p_follow_end[i - 1], 0) + 1 : p_follow_end[i]];
    v_scope := p_scope[coalesce(p_scope_end[i - 1], 0) + 1 : p_scope_end[i]];
    begin
      perform set_config('role', p_role[i], true), set_config('request.jwt.claims', p_claims[i], true);
      return query
        select i, candidate.id, candidate.related, p.face, p.status, p.reach, p.last_seen, p.custom_status,
          p.activity, p.current_page, p.idle_since, p.version, null::uuid, null::text
        from (
          select either.id, bool_or(either.related) as related
          from (
            select r.id, true as related from rollcall.my_relations() as r (id)
            union all
            select f.id, false from unnest(v_follow) as f (id)
          ) either
          where p_full[i] or either.id = any (v_scope)
          group by either.id
        ) candidate
        left join public.user_presence p on p.user_id = candidate.id;
      return query
        select i, t.user_id, true, null::public.presence_face, null::public.presence_status,
          null::public.presence_reach, null::timestamptz, null::text, null::text, null::text, null::timestamptz,
          null::bigint, t.conversation_id, null::text
        from rollcall.my_conversations() as mine (id)
        join public.typing_indicators t on t.conversation_id = mine.id
        where p_full[i] or t.user_id = any (v_scope);
    exception when others then
      return query select i, null::uuid, null::boolean, null::public.presence_face, null::public.presence_status,
        null::public.presence_reach, null::timestamptz, null::text, null::text, null::text, null::timestamptz,
        null::bigint, null::uuid, sqlstate::text;
    end;
  end loop;
  perform set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
end
$$;
comment on function rollcall.look is 'Whom each of some viewers sees, asked of row-level security as that viewer.';

revoke execute on all functions in schema rollcall from public;
