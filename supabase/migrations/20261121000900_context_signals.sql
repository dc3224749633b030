-- What a user does on a device: the signals from which context is prepared ahead, and which the user's other devices
-- show. They lie on the device's row.
-- Invariant: signals are nobody's presence. They write no face and reach nobody but the user.

-- Orders the states of a device's signals, and names one of them in a notification.
create sequence rollcall.context_version;

alter table public.presence_devices
  add column active_conversation_id uuid,
  add column visible_conversation_ids uuid[] not null default '{}'
    constraint presence_devices_visible_conversations_count check (cardinality(visible_conversation_ids) <= 100),
  add column active_notebook_id uuid,
  add column active_persona_id uuid,
  add column last_navigation_path text
    constraint presence_devices_last_navigation_path_length check (char_length(last_navigation_path) <= 2048),
  add column navigation_history jsonb not null default '[]'
    constraint presence_devices_navigation_history_size
      check (jsonb_typeof(navigation_history) = 'array' and jsonb_array_length(navigation_history) <= 10),
  add column local_time text
    constraint presence_devices_local_time_length check (char_length(local_time) <= 64),
  add column context_updated_at timestamptz,
  add column context_version bigint;
comment on column public.presence_devices.visible_conversation_ids is 'The conversations in view, as in a sidebar; at most 100.';
comment on column public.presence_devices.navigation_history is
  'The last ten places in the application, oldest first: [{"path", "at"}]. Kept by a trigger.';
comment on column public.presence_devices.local_time is
  'The time of day where the user is, as the device wrote it: 14:30, or with a date and offset.';
comment on column public.presence_devices.context_updated_at is 'When a context signal last changed. Kept by a trigger.';
comment on column public.presence_devices.context_version is 'Rises with every change of a context signal. Kept by a trigger.';

grant insert (active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time),
  update (active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time)
  on public.presence_devices to authenticated;

-- Numbers and dates a change, and adds a new place to the history.
-- Definer: the sequence is the server's; touches only the row at hand.
create function rollcall.stamp_context() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  new.context_version := nextval('rollcall.context_version');
  new.context_updated_at := date_trunc('milliseconds', clock_timestamp());
  if new.last_navigation_path is not null
    and (tg_op = 'INSERT' or new.last_navigation_path is distinct from old.last_navigation_path)
  then
    select jsonb_agg(step.place order by step.number) into new.navigation_history
    from (
      select places.place, places.number
      from jsonb_array_elements(new.navigation_history || jsonb_build_array(
          jsonb_build_object('path', new.last_navigation_path, 'at', new.context_updated_at)))
        with ordinality as places (place, number)
      order by places.number desc
      limit 10
    ) step;
  end if;
  return new;
end
$$;

-- Tells every node which state of whose signals is new. One row, one pair; what is written in batches (heartbeats,
-- statuses, connections) does not touch these columns, and the triggers below do not fire for it.
-- Definer: called from a trigger of whoever writes.
create function rollcall.notify_context() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform pg_notify('rollcall_context', format('%s|%s:%s',
    (extract(epoch from clock_timestamp()) * 1000)::bigint, new.user_id, new.context_version));
  return null;
end
$$;

create trigger stamp_context_of_new before insert on public.presence_devices
  for each row
  when (num_nonnulls(new.active_conversation_id, new.active_notebook_id, new.active_persona_id,
      new.last_navigation_path, new.local_time) > 0 or new.visible_conversation_ids <> '{}')
  execute function rollcall.stamp_context();

create trigger stamp_context before update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on public.presence_devices
  for each row
  when ((old.active_conversation_id, old.visible_conversation_ids, old.active_notebook_id, old.active_persona_id,
      old.last_navigation_path, old.local_time)
    is distinct from (new.active_conversation_id, new.visible_conversation_ids, new.active_notebook_id,
      new.active_persona_id, new.last_navigation_path, new.local_time))
  execute function rollcall.stamp_context();

create trigger notify_context_of_new after insert on public.presence_devices
  for each row when (new.context_version is not null) execute function rollcall.notify_context();

create trigger notify_context after update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on public.presence_devices
  for each row when (old.context_version is distinct from new.context_version)
  execute function rollcall.notify_context();

-- Functions of a migration are for nobody unless it grants them.
revoke execute on all functions in schema rollcall from public;
