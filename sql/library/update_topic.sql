-- Changes a topic of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.topic_profiles t set
  label = case when $2::jsonb ? 'label' then $2 ->> 'label' else t.label end,
  aliases = case when $2::jsonb ? 'aliases' then array(select jsonb_array_elements_text($2 -> 'aliases')) else t.aliases end,
  importance = case when $2::jsonb ? 'importance' then ($2 ->> 'importance')::real else t.importance end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'slug', t.slug, 'label', t.label, 'aliases', t.aliases, 'importance', t.importance,
  'domain', t.domain, 'proficiency', t.proficiency, 'unitCount', t.unit_count,
  'conversationCount', t.conversation_count, 'lastEngagedAt', t.last_engaged_at, 'createdAt', t.created_at) as found
