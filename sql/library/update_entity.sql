-- Changes an entity of the caller. $1 id uuid, $2 jsonb: keys that are absent stay. Returns one row, or none.
update rollcall.entity_profiles t set
  name = case when $2::jsonb ? 'name' then $2 ->> 'name' else t.name end,
  aliases = case when $2::jsonb ? 'aliases' then array(select jsonb_array_elements_text($2 -> 'aliases')) else t.aliases end,
  relationship = case when $2::jsonb ? 'relationship' then $2 ->> 'relationship' else t.relationship end,
  importance = case when $2::jsonb ? 'importance' then ($2 ->> 'importance')::real else t.importance end
where t.id = $1 and t.user_id = auth.uid()
returning jsonb_build_object(
  'id', t.id, 'slug', t.slug, 'name', t.name, 'aliases', t.aliases, 'relationship', t.relationship,
  'importance', t.importance, 'entityType', t.entity_type, 'mentionCount', t.mention_count,
  'conversationCount', t.conversation_count, 'lastMentionedAt', t.last_mentioned_at, 'createdAt', t.created_at) as found
