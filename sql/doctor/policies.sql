-- Policies of the schema rollcall that raise an error for a new user. Only for a database with the module presence.
-- Returns one row: name text, ok bool, finding text, remedy text (null).
select 'policies' as name, found.errors is null as ok,
  coalesce(found.errors, 'no policy of our tables raises an error for a new user') as finding,
  null::text as remedy
from (
  select string_agg(distinct format('the policy "%s" on %s raises %s for the role %s: %s', e.policy, e.relation, e.error,
      api.role, e.message), '; ') as errors
  from unnest(array['anon', 'authenticated']) as api (role)
  cross join lateral rollcall_internal.failing_policies(api.role,
    jsonb_build_object('role', api.role, 'sub', gen_random_uuid())::text) e
) found
