-- Module: presence
-- Typing: who is notified, and how it expires. A start and a stop are notified; a refresh only when two seconds have
-- passed since the last notification.

-- Participants of a conversation see each other type, except users that are blocked, invisible, hidden from everyone,
-- or that switched typing off.
-- In rollcall_internal, where a policy may call it and API roles may not: called by name, it would answer for somebody
-- who is not typing, and so reveal who is invisible or has blocked the caller.
-- Definer: see my_visible_users.
create function rollcall_internal.can_see_typing(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return (
    select case
      when v_me = p_subject then true
      when exists (select from rollcall_internal.blocks_between(v_me, p_subject)) then false
      when exists (select from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = v_me)
        then true
      else not exists (select from rollcall.presence_choices c where c.user_id = p_subject and c.chosen = 'invisible')
        and not exists (select from rollcall.presence_settings s
          where s.user_id = p_subject and (s.visibility = 'nobody' or not s.show_typing))
      end
  );
end
$$;
comment on function rollcall_internal.can_see_typing is
  'Whether the caller may see a user type in a conversation that both take part in.';
grant execute on function rollcall_internal.can_see_typing to authenticated, service_role;

-- API roles may say that they type, not for how long.
-- Definer: reads the type of conversation IDs; writes only the new row.
create function rollcall_internal.limit_typing_times() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.conversation_id := rollcall.conversation_key(new.conversation_id);
  if new.id_is_number is null then
    new.id_is_number := (select k from rollcall_internal.conversation_id_kind() k) = 'bigint';
  end if;
  new.updated_at := least(new.updated_at, clock_timestamp());
  new.expires_at := least(new.expires_at, clock_timestamp() + interval '5 seconds');
  return new;
end
$$;
comment on function rollcall_internal.limit_typing_times is
  'Trigger function: normalizes conversation_id, limits updated_at to now and expires_at to five seconds from now.';

-- Typing that starts counts against a quota; a refresh by `insert … on conflict` starts nothing. An update that
-- extends the typing by less than half a second is left out (typing ends with a delete), and updated_at is kept for two
-- seconds: so a flood of updates writes a row twice a second, and notifies every two seconds.
-- Definer: counts typing that policies may hide; see consume_quota.
create function rollcall_internal.limit_typing_writes() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    if auth.uid() is not null and not exists (
      select from rollcall.typing_indicators t
      where t.conversation_id = new.conversation_id and t.user_id = new.user_id)
    then
      perform rollcall_internal.consume_quota('typing_starts');
    end if;
    return new;
  end if;
  if new.expires_at < old.expires_at + interval '500 milliseconds' then
    return null;
  end if;
  if new.updated_at < old.updated_at + interval '2 seconds' then
    new.updated_at := old.updated_at;
  end if;
  return new;
end
$$;
comment on function rollcall_internal.limit_typing_writes is
  'Trigger function: counts typing that a user starts, and leaves out updates that are too frequent.';

-- The format of notify_ids with one pair per line, at most 6,000 bytes and one pair each: IDs have up to 255 characters
-- and no control characters.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_typing(p_pairs text[]) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
  v_nonce text;
  v_masked text[];
begin
  for v_part in
    select array_agg(m.pair order by m.number) as pairs
    from (
      select n.pair, n.number, (sum(octet_length(n.pair) + 1) over (order by n.number) / 6000)::bigint as part
      from unnest(p_pairs) with ordinality as n (pair, number)
    ) m
    group by m.part
    order by m.part
  loop
    v_nonce := rollcall_internal.notification_nonce();
    v_masked := rollcall_internal.mask_ids(v_nonce, array(
      select right(n.pair, 36)::uuid from unnest(v_part.pairs) with ordinality as n (pair, number) order by n.number));
    perform rollcall_internal.notify('rollcall_typing', (
      select rollcall_internal.notification_time() || '|'
        || string_agg(left(n.pair, -36) || v_masked[n.number], e'\n' order by n.number)
      from unnest(v_part.pairs) with ordinality as n (pair, number)), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_typing is 'Sends `conversation:user` pairs as notifications.';

-- Definer: see notify_typing.
create function rollcall_internal.on_typing_started() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify_typing(array(select n.conversation_id || ':' || n.user_id from new_rows n));
  return null;
end
$$;
comment on function rollcall_internal.on_typing_started is 'Trigger function: notifies nodes of typing that started.';

-- updated_at is the time of the last notification; an update that keeps it is a refresh without notification.
-- Definer: see notify_typing.
create function rollcall_internal.on_typing_refreshed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify_typing(array(
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
comment on function rollcall_internal.on_typing_refreshed is
  'Trigger function: notifies nodes of typing that continues.';

-- Definer: see notify_typing.
create function rollcall_internal.on_typing_stopped() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify_typing(array(select o.conversation_id || ':' || o.user_id from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_typing_stopped is 'Trigger function: notifies nodes of typing that stopped.';

-- Unlogged: after a crash nobody is typing.
create unlogged table rollcall.typing_indicators (
  conversation_id text not null
    constraint typing_indicators_conversation_id_is_plain
      check (char_length(conversation_id) between 1 and 255 and conversation_id !~ '[[:cntrl:]]'),
  user_id uuid not null,
  updated_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '5 seconds',
  id_is_number boolean,
  constraint typing_indicators_pkey primary key (conversation_id, user_id)
) with (fillfactor = 50);
comment on table rollcall.typing_indicators is
  'Users that are typing. A row expires after five seconds unless it is refreshed. Unlogged.';
comment on column rollcall.typing_indicators.conversation_id is
  'The ID as text, whatever its type in the table of participants.';
comment on column rollcall.typing_indicators.id_is_number is
  'Whether the typing user gave the ID as a JSON number; sockets receive it the same way. Default: integer IDs are.';
create index typing_indicators_user_id on rollcall.typing_indicators (user_id);
alter table rollcall.typing_indicators enable row level security;
create policy "participants read who is typing" on rollcall.typing_indicators
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversation_ids()) and rollcall_internal.can_see_typing(user_id));
create policy "participants start typing" on rollcall.typing_indicators
  for insert to authenticated
  with check (user_id = (select auth.uid()) and conversation_id in (select rollcall.my_conversation_ids()));
create policy "users refresh their typing" on rollcall.typing_indicators
  for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and conversation_id in (select rollcall.my_conversation_ids()));
create policy "users stop typing" on rollcall.typing_indicators
  for delete to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.typing_indicators
  for all to service_role using (true) with check (true);
revoke all on rollcall.typing_indicators from anon, authenticated, service_role;
grant select, delete, insert (conversation_id, user_id, expires_at, id_is_number),
  update (updated_at, expires_at, id_is_number)
  on rollcall.typing_indicators to authenticated;
grant all on rollcall.typing_indicators to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.typing_indicators', 'user_id', true, 50, null);

create trigger limit_typing_times before insert or update on rollcall.typing_indicators
  for each row execute function rollcall_internal.limit_typing_times();
-- After limit_typing_times, in the order of names.
create trigger refuse_frequent_writes before insert or update on rollcall.typing_indicators
  for each row when (current_user = 'authenticated')
  execute function rollcall_internal.limit_typing_writes();
create trigger notify_after_insert after insert on rollcall.typing_indicators
  referencing new table as new_rows for each statement execute function rollcall_internal.on_typing_started();
create trigger notify_after_update after update on rollcall.typing_indicators
  referencing old table as old_rows new table as new_rows for each statement
    execute function rollcall_internal.on_typing_refreshed();
create trigger notify_after_delete after delete on rollcall.typing_indicators
  referencing old table as old_rows for each statement execute function rollcall_internal.on_typing_stopped();
create trigger invalidate_after_truncate after truncate on rollcall.typing_indicators
  for each statement execute function rollcall_internal.on_truncated();

-- Concurrent nodes skip each other's rows.
-- Definer: acts on rows of all users; service_role only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.expire_typing() returns timestamptz
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  delete from rollcall.typing_indicators t
  using (
    select e.conversation_id, e.user_id from rollcall.typing_indicators e
    -- A row lives five seconds. After the clock went back, older ones would expire later.
    where e.expires_at <= clock_timestamp() or e.expires_at > clock_timestamp() + interval '6 seconds'
    for update skip locked
  ) expired
  where t.conversation_id = expired.conversation_id and t.user_id = expired.user_id;
  return (select min(t.expires_at) from rollcall.typing_indicators t);
end
$$;
comment on function rollcall.expire_typing is
  'Deletes expired typing rows; returns when the next one expires, null when there is none.';
grant execute on function rollcall.expire_typing to service_role;
