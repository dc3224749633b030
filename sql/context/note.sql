-- Stores what a user does on a device, as that user: row-level security and column grants decide.
-- $1 user uuid, $2 device text, $3 jsonb with the fields to change, by column name; null clears.
-- Returns nothing. Relies on presence_devices_pkey. Unchanged signals keep their version and are not notified.
insert into rollcall.presence_devices as d
  (user_id, device_id, active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time)
values (
  $1::uuid, $2::text,
  ($3::jsonb ->> 'active_conversation_id')::uuid,
  array(select id::uuid from jsonb_array_elements_text(coalesce($3 -> 'visible_conversation_ids', '[]')) id),
  ($3 ->> 'active_notebook_id')::uuid,
  ($3 ->> 'active_persona_id')::uuid,
  $3 ->> 'last_navigation_path',
  $3 ->> 'local_time'
)
on conflict (user_id, device_id) do update set
  active_conversation_id =
    case when $3 ? 'active_conversation_id' then excluded.active_conversation_id else d.active_conversation_id end,
  visible_conversation_ids =
    case when $3 ? 'visible_conversation_ids' then excluded.visible_conversation_ids else d.visible_conversation_ids end,
  active_notebook_id = case when $3 ? 'active_notebook_id' then excluded.active_notebook_id else d.active_notebook_id end,
  active_persona_id = case when $3 ? 'active_persona_id' then excluded.active_persona_id else d.active_persona_id end,
  last_navigation_path =
    case when $3 ? 'last_navigation_path' then excluded.last_navigation_path else d.last_navigation_path end,
  local_time = case when $3 ? 'local_time' then excluded.local_time else d.local_time end
