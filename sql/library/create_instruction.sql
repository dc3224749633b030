-- Stores an instruction of the caller. $1 jsonb. Returns one row.
insert into rollcall.custom_instructions as t (user_id, content, topic_id, priority, is_active, scope)
select auth.uid(),
  $1::jsonb ->> 'content',
  ($1::jsonb ->> 'topicId')::uuid,
  coalesce(($1::jsonb ->> 'priority')::int, 0),
  coalesce(($1::jsonb ->> 'isActive')::boolean, true),
  case when $1 ->> 'topicId' is null then 'global' else 'topic' end::rollcall.instruction_scope
returning jsonb_build_object(
  'id', t.id, 'content', t.content, 'topicId', t.topic_id, 'priority', t.priority, 'isActive', t.is_active,
  'createdAt', t.created_at, 'updatedAt', t.updated_at) as found
