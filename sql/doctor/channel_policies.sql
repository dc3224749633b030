-- Policies of private channels that raise an error for a new user, such as a missing grant or function. Errors of values
-- (class 22), such as a topic that is no UUID, depend on the topic and are not reported.
-- Returns one row: name text, ok bool, finding text, remedy text (null).
select 'channel_policies' as name, found.errors is null as ok,
  coalesce(found.errors, 'no policy on realtime.messages raises an error for a new user') as finding,
  null::text as remedy
from (
  select string_agg(distinct e.reason, '; ' order by e.reason) as errors
  from (select unnest(array['anon', 'authenticated']) as role where to_regclass('realtime.messages') is not null) api
  cross join lateral rollcall.explain_channel(
    jsonb_build_object('role', api.role, 'sub', gen_random_uuid()), 'doctor:00000000-0000-0000-0000-000000000000') e
  where e.reason ~ '^the policy .* raises (42|XX)'
) found
