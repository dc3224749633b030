-- Deletes the rows of earlier rounds and marks every bundle ready.
delete from rollcall.messages m where m.content like 'A message of some words%';
delete from rollcall.memories m where m.content like 'The greenhouse%';
delete from rollcall.atomic_chat_units u where u.content like 'The greenhouse%';
delete from rollcall.system_actions;
truncate rollcall_internal.context_source_changes;
update rollcall.context_bundles b set dirty = false where b.dirty;
vacuum rollcall.messages, rollcall.memories, rollcall.atomic_chat_units, rollcall.conversations, rollcall.context_bundles,
  rollcall.system_actions, rollcall_internal.context_source_changes;
