-- Faces are recomputed from devices, choice and settings by triggers, in the transaction that changed them.
-- Invariant: a face is written only when it differs, so a heartbeat or a repeat makes no noise.

-- Every state of a face has a number that rises, whoever writes it; and `reach` follows `status` where a DBA
-- sets only the latter. Invoker: touches only the row at hand.
create function rollcall.stamp_face() returns trigger
  language plpgsql security invoker set search_path = ''
as $$
begin
  -- The row is locked by now, so a later state always takes a later number.
  new.version := nextval('rollcall.presence_version');
  if tg_op = 'UPDATE' and new.status is distinct from old.status and new.reach = old.reach then
    new.reach := case new.status when 'offline' then 'offline' when 'away' then 'away' else 'online' end;
  end if;
  return new;
end
$$;
create trigger stamp_face before insert or update on public.user_presence
  for each row execute function rollcall.stamp_face();

-- Recomputes both faces of the users named and writes the ones that differ. Locks one row a user, in order, so that
-- concurrent changes of one user follow each other; what it then reads is newer than the lock (each statement of a
-- volatile function has its own snapshot), so no change is lost.
-- Definer: called by triggers on behalf of users who may not write faces. Not executable by API roles.
create function rollcall.refresh_faces(p_users uuid[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := date_trunc('milliseconds', clock_timestamp());
begin
  perform from public.user_last_seen l where l.user_id = any (p_users) order by l.user_id for update;
  insert into public.user_last_seen (user_id)
    select distinct w.user_id from unnest(p_users) as w (user_id)
    where not exists (select from public.user_last_seen l where l.user_id = w.user_id)
    order by w.user_id
    on conflict (user_id) do nothing;
  if found then
    perform from public.user_last_seen l where l.user_id = any (p_users) order by l.user_id for update;
  end if;

  with
  device as (
    select
      d.user_id,
      bool_or(d.status <> 'offline') as live,
      bool_or(d.status = 'online' and d.idle_since is null) as active,
      max(d.idle_since) filter (where d.status <> 'offline') as idle_since,
      max(d.last_heartbeat_at) as last_heartbeat_at,
      (array_agg(d.activity order by d.last_active_at desc) filter (where d.status <> 'offline' and d.activity is not null))[1] as activity,
      (array_agg(d.current_page order by d.last_active_at desc) filter (where d.status <> 'offline' and d.current_page is not null))[1] as current_page
    from public.presence_devices d
    where d.user_id = any (p_users)
    group by d.user_id
  ),
  fact as (
    select
      l.user_id,
      coalesce(d.live, false) as live,
      case when not coalesce(d.live, false) then 'offline' when d.active then 'online' else 'away' end::public.presence_reach as reach,
      case when not d.active then d.idle_since end as idle_since,
      case when coalesce(d.live, false) then v_now
        else date_trunc('milliseconds', greatest(l.last_seen, d.last_heartbeat_at)) end as last_seen,
      d.activity,
      d.current_page,
      c.chosen,
      c.last_seen_when_hidden,
      case when c.custom_status_expires_at is null or c.custom_status_expires_at > v_now then c.custom_status end as custom_status,
      coalesce(s.show_last_seen, true) as show_last_seen,
      coalesce(s.show_activity, true) as show_activity,
      coalesce(s.show_custom_status, true) as show_custom_status,
      l.last_seen is not null or d.user_id is not null or c.user_id is not null or s.user_id is not null as known
    from public.user_last_seen l
    left join device d using (user_id)
    left join public.presence_choices c using (user_id)
    left join public.presence_settings s using (user_id)
    where l.user_id = any (p_users)
  ),
  face as (
    select
      f.user_id, 'trusted'::public.presence_face as face,
      case when f.live then coalesce(f.chosen, f.reach::text::public.presence_status) else 'offline' end as status,
      f.reach, f.last_seen, f.custom_status,
      case when f.live then f.activity end as activity,
      case when f.live then f.current_page end as current_page,
      case when f.live then f.idle_since end as idle_since
    from fact f where f.known
    union all
    -- What an invisible user shows is what an offline one shows: nothing but the last_seen of that moment.
    select
      f.user_id, 'public',
      case when shown.live then coalesce(f.chosen, f.reach::text::public.presence_status) else 'offline' end,
      case when shown.live then f.reach else 'offline' end,
      case when not f.show_last_seen then null when f.chosen = 'invisible' then f.last_seen_when_hidden else f.last_seen end,
      case when shown.live and f.show_custom_status then f.custom_status end,
      case when shown.live and f.show_activity then f.activity end,
      case when shown.live and f.show_activity then f.current_page end,
      case when shown.live and f.show_last_seen then f.idle_since end
    from fact f
    cross join lateral (select f.live and f.chosen is distinct from 'invisible' as live) shown
    where f.known
  ),
  seen as (
    -- A live user's last_seen moves with every change, but not more often than a lease is renewed.
    update public.user_last_seen l set last_seen = f.last_seen
    from fact f
    where f.user_id = l.user_id and f.known
      and (l.last_seen is null or f.last_seen > l.last_seen + case when f.live then interval '3 seconds' else interval '0' end)
  ),
  gone as (
    delete from public.user_presence p using fact f where f.user_id = p.user_id and not f.known
  ),
  forgotten as (
    delete from public.user_last_seen l using fact f where f.user_id = l.user_id and not f.known
  )
  insert into public.user_presence as p
    (user_id, face, status, reach, last_seen, custom_status, activity, current_page, idle_since, version)
    select f.user_id, f.face, f.status, f.reach, f.last_seen, f.custom_status, f.activity, f.current_page, f.idle_since, 0
    from face f
    left join public.user_presence now on now.user_id = f.user_id and now.face = f.face
    where now.user_id is null
      or (now.status, now.reach, now.custom_status, now.activity, now.current_page, now.idle_since)
        is distinct from (f.status, f.reach, f.custom_status, f.activity, f.current_page, f.idle_since)
      -- While somebody is shown as live, last_seen alone is no news.
      or ((f.reach = 'offline' or (f.last_seen is null) <> (now.last_seen is null)) and now.last_seen is distinct from f.last_seen)
    on conflict (user_id, face) do update set
      status = excluded.status, reach = excluded.reach, last_seen = excluded.last_seen,
      custom_status = excluded.custom_status, activity = excluded.activity, current_page = excluded.current_page,
      idle_since = excluded.idle_since;
end
$$;
comment on function rollcall.refresh_faces is 'Recomputes the faces of some users from devices, choices and settings.';

-- What an invisible user shows as last_seen is fixed at the moment of the choice, before it takes effect.
-- Definer: reads presence that the caller may not see; touches only the row at hand.
create function rollcall.stamp_choice() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  new.updated_at := now();
  if new.chosen is distinct from 'invisible' then
    new.last_seen_when_hidden := null;
  elsif tg_op = 'INSERT' or old.chosen is distinct from 'invisible' then
    new.last_seen_when_hidden := date_trunc('milliseconds', case
      when exists (select from public.presence_devices d where d.user_id = new.user_id and d.status <> 'offline')
        then clock_timestamp()
      else (select l.last_seen from public.user_last_seen l where l.user_id = new.user_id) end);
  end if;
  return new;
end
$$;
create trigger stamp_choice before insert or update on public.presence_choices
  for each row execute function rollcall.stamp_choice();

-- The statement triggers. A batch that changes several tables asks for one refresh at its end instead of one a
-- table: it sets rollcall.batch for its transaction.
-- Definer: see refresh_faces.
create function rollcall.on_source_inserted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  if coalesce(current_setting('rollcall.batch', true), '') <> 'on' and exists (select from new_rows) then
    perform rollcall.refresh_faces(array(select distinct n.user_id from new_rows n));
  end if;
  return null;
end
$$;

create function rollcall.on_source_updated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  if coalesce(current_setting('rollcall.batch', true), '') <> 'on' and exists (select from new_rows) then
    perform rollcall.refresh_faces(array(select n.user_id from new_rows n union select o.user_id from old_rows o));
  end if;
  return null;
end
$$;

create function rollcall.on_source_deleted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  if coalesce(current_setting('rollcall.batch', true), '') <> 'on' and exists (select from old_rows) then
    perform rollcall.refresh_faces(array(select distinct o.user_id from old_rows o));
  end if;
  return null;
end
$$;

create trigger refresh_after_insert after insert on public.presence_devices
  referencing new table as new_rows for each statement execute function rollcall.on_source_inserted();
create trigger refresh_after_update after update on public.presence_devices
  referencing old table as old_rows new table as new_rows for each statement execute function rollcall.on_source_updated();
create trigger refresh_after_delete after delete on public.presence_devices
  referencing old table as old_rows for each statement execute function rollcall.on_source_deleted();

create trigger refresh_after_insert after insert on public.presence_choices
  referencing new table as new_rows for each statement execute function rollcall.on_source_inserted();
create trigger refresh_after_update after update on public.presence_choices
  referencing old table as old_rows new table as new_rows for each statement execute function rollcall.on_source_updated();
create trigger refresh_after_delete after delete on public.presence_choices
  referencing old table as old_rows for each statement execute function rollcall.on_source_deleted();

create trigger refresh_after_insert after insert on public.presence_settings
  referencing new table as new_rows for each statement execute function rollcall.on_source_inserted();
create trigger refresh_after_update after update on public.presence_settings
  referencing old table as old_rows new table as new_rows for each statement execute function rollcall.on_source_updated();
create trigger refresh_after_delete after delete on public.presence_settings
  referencing old table as old_rows for each statement execute function rollcall.on_source_deleted();
