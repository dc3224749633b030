-- Presence without the server: what a user's own role calls, over PostgREST, an Edge Function or psql.
-- Invariant: each answers for auth.uid() and nobody else.

-- Keeps one of the caller's devices alive, and makes it where it is new; looked at, too, with p_active. One that signed
-- off stays off. Returns whether the device is live.
-- Definer: notes columns that are the server's; acts for auth.uid() only.
create function rollcall.heartbeat_mine(p_device text default 'default', p_active boolean default false) returns boolean
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
begin
  if v_me is null then
    raise exception 'there is no user in the claims' using errcode = 'insufficient_privilege';
  end if;
  perform rollcall.write_presence(
    array['heartbeat'], array[v_me], array[p_device], array[null::uuid], array[0::double precision], array[p_active],
    array[null::public.presence_status], array[false], array[null::text], array[null::timestamptz], array[null::text],
    array[null::text]);
  return (select d.live from public.presence_devices d where d.user_id = v_me and d.device_id = p_device);
end
$$;
comment on function rollcall.heartbeat_mine is 'Keeps one of the caller''s devices alive; returns whether it is live.';
grant execute on function rollcall.heartbeat_mine to authenticated;

-- Sets the caller's status on a device, and returns the caller's own face. A custom status counts with p_set_custom only;
-- an activity or page that is null stays as it is, and an empty one is cleared.
-- Invoker: writes the caller's rows, which policies and grants judge as they would judge the same in SQL.
create function rollcall.set_my_status(
  p_status public.presence_status, p_device text default 'default', p_set_custom boolean default false,
  p_custom text default null, p_custom_expires timestamptz default null, p_activity text default null, p_page text default null
) returns setof public.user_presence
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_choice constant public.presence_status := case when p_status in ('busy', 'dnd', 'invisible') then p_status end;
begin
  if v_me is null then
    raise exception 'there is no user in the claims' using errcode = 'insufficient_privilege';
  end if;
  -- The choice first, as everybody locks; going offline keeps it.
  if v_choice is not null or p_set_custom or exists (select from public.presence_choices c where c.user_id = v_me) then
    insert into public.presence_choices as c (user_id, chosen, custom_status, custom_status_expires_at)
      values (v_me, v_choice, case when p_set_custom then p_custom end,
        case when p_set_custom and p_custom is not null then p_custom_expires end)
      on conflict (user_id) do update set
        chosen = case when p_status = 'offline' then c.chosen else excluded.chosen end,
        custom_status = case when p_set_custom then excluded.custom_status else c.custom_status end,
        custom_status_expires_at = case when p_set_custom then excluded.custom_status_expires_at else c.custom_status_expires_at end;
  end if;
  if p_status = 'offline' then
    update public.presence_devices d set status = 'offline' where d.user_id = v_me and d.device_id = p_device;
  else
    insert into public.presence_devices as d (user_id, device_id, status, activity, current_page)
      values (v_me, p_device, case when p_status = 'away' then 'away' else 'online' end::public.presence_status,
        nullif(p_activity, ''), nullif(p_page, ''))
      on conflict (user_id, device_id) do update set
        status = excluded.status,
        activity = case when p_activity is null then d.activity else excluded.activity end,
        current_page = case when p_page is null then d.current_page else excluded.current_page end;
    perform rollcall.heartbeat_mine(p_device, true);
  end if;
  return query select p.* from public.user_presence p where p.user_id = v_me and p.face = 'trusted';
end
$$;
comment on function rollcall.set_my_status is 'Sets the caller''s status on a device; returns the caller''s own face.';
grant execute on function rollcall.set_my_status to authenticated;

revoke execute on all functions in schema rollcall from public;
