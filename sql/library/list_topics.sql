-- The caller's topics, newest first. $1 time and $2 id uuid of the last row of the page before, or null;
-- $3 maximum number int; $4 filters jsonb: keys that are absent do not filter. Returns one row each.
select jsonb_build_object(
  'id', t.id, 'slug', t.slug, 'label', t.label, 'aliases', t.aliases, 'importance', t.importance,
  'domain', t.domain, 'proficiency', t.proficiency, 'unitCount', t.unit_count,
  'conversationCount', t.conversation_count, 'lastEngagedAt', t.last_engaged_at, 'createdAt', t.created_at) as found,
  t.created_at as at, t.id
from rollcall.topic_profiles t
where t.user_id = auth.uid()
  and ($1::timestamptz is null or (t.created_at, t.id) < ($1, $2::uuid))
  and $4::jsonb is not null
order by t.created_at desc, t.id desc
limit $3::int
