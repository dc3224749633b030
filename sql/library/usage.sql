-- The caller's usage of models of the last 31 days by day, purpose and model. Returns at most 1,000 rows.
select jsonb_build_object('day', u.day, 'purpose', u.purpose, 'model', u.model, 'calls', u.calls,
  'promptTokens', u.prompt, 'completionTokens', u.completion, 'cost', u.cost) as found
from (
  select (x.created_at at time zone 'UTC')::date as day, x.purpose, x.model, count(*) as calls,
    sum(x.prompt_tokens)::bigint as prompt, sum(x.completion_tokens)::bigint as completion, sum(x.cost)::float8 as cost
  from rollcall.model_usage x
  where x.user_id = auth.uid() and x.created_at > now() - interval '31 days'
  group by 1, 2, 3
  order by 1 desc, 2, 3
  limit 1000
) u
