-- Typing: who hears of it, and that it ends by itself.
-- Invariant: a start and a stop are told, a refresh is not, unless two seconds have passed since the last telling.

-- `conversation:user` pairs; see notify_ids.
-- Definer: called from triggers of whoever types.
create function rollcall.notify_typing(p_pairs text[]) returns void
  language sql volatile security definer set search_path = ''
as $$
  select pg_notify('rollcall_typing',
    (extract(epoch from clock_timestamp()) * 1000)::bigint || '|' || string_agg(numbered.pair, ','))
  from unnest(p_pairs) with ordinality as numbered (pair, place)
  group by (numbered.place - 1) / 100
$$;

create function rollcall.on_typing_started() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall.notify_typing(array(select n.conversation_id || ':' || n.user_id from new_rows n));
  return null;
end
$$;

-- updated_at is when typing was last told of; an update that leaves it alone is a silent refresh.
create function rollcall.on_typing_refreshed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall.notify_typing(array(
    select n.conversation_id || ':' || n.user_id
    from new_rows n
    where not exists (
      select from old_rows o
      where o.conversation_id = n.conversation_id and o.user_id = n.user_id and o.updated_at = n.updated_at
    )
  ));
  return null;
end
$$;

create function rollcall.on_typing_stopped() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall.notify_typing(array(select o.conversation_id || ':' || o.user_id from old_rows o));
  return null;
end
$$;

create trigger notify_after_insert after insert on public.typing_indicators
  referencing new table as new_rows for each statement execute function rollcall.on_typing_started();
create trigger notify_after_update after update on public.typing_indicators
  referencing old table as old_rows new table as new_rows for each statement execute function rollcall.on_typing_refreshed();
create trigger notify_after_delete after delete on public.typing_indicators
  referencing old table as old_rows for each statement execute function rollcall.on_typing_stopped();
create trigger void_after_truncate after truncate on public.typing_indicators
  for each statement execute function rollcall.on_truncated();

-- Ends typing that was not refreshed; returns when the next of it is due, null when nobody types. Nodes that do it at
-- the same time skip each other's rows.
-- Definer: acts on everybody's rows; executable by service_role.
create function rollcall.expire_typing() returns timestamptz
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.typing_indicators t
  using (
    select e.conversation_id, e.user_id from public.typing_indicators e
    where e.expires_at <= clock_timestamp()
    for update skip locked
  ) expired
  where t.conversation_id = expired.conversation_id and t.user_id = expired.user_id;
  return (select min(t.expires_at) from public.typing_indicators t);
end
$$;
comment on function rollcall.expire_typing is 'Ends typing that was not refreshed; returns when the next is due.';
grant execute on function rollcall.expire_typing to service_role;

revoke execute on all functions in schema rollcall from public;
