-- Deletes the rows of earlier rounds and marks every bundle ready.
delete from public.messages m where m.content like 'A message of some words%';
delete from public.memories m where m.content like 'The greenhouse%';
delete from public.atomic_chat_units u where u.content like 'The greenhouse%';
delete from public.system_actions;
truncate rollcall.context_marks;
update public.context_bundles b set dirty = false where b.dirty;
vacuum public.messages, public.memories, public.atomic_chat_units, public.conversations, public.context_bundles,
  public.system_actions, rollcall.context_marks;
