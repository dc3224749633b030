-- Module: channels
-- Who is present in realtime channels, as rows: for SQL, and for the other nodes. Each node writes its own rows only,
-- in batches that notify the other nodes in the same transaction; they are deleted with the node's row in
-- nodes. Sockets never wait for these writes.

-- Who may read in SQL who is in a channel? On Supabase the right to see presence is a policy on realtime.messages that
-- reads realtime.topic(), a setting of the session and not a column, so it cannot be evaluated for many topics at
-- once. So service_role reads all rows, users read their own, and a DBA adds what the application needs, for example:
-- create policy "members read channel presence" on rollcall_internal.channel_presence for select to authenticated
-- using (private and exists (
--   select from members m where m.room = channel_presence.topic and m.user_id = (select auth.uid()))).
create unlogged table rollcall_internal.channel_presence (
  node uuid not null,
  channel bigint not null,
  topic text not null,
  private boolean not null,
  key text not null,
  phx_ref text not null,
  meta jsonb,
  payload text not null,
  user_id uuid,
  joined_at timestamptz not null,
  updated_at timestamptz not null,
  constraint presence_pkey primary key (node, channel)
) with (fillfactor = 80);
comment on table rollcall_internal.channel_presence is
  'What each realtime channel tracks, one row per meta. Derived: only servers write it. A channel is a join of one '
  'socket; several may use one key. Unlogged.';
comment on column rollcall_internal.channel_presence.topic is 'The topic of the channel without realtime:.';
comment on column rollcall_internal.channel_presence.channel is 'The number of the channel on its node.';
comment on column rollcall_internal.channel_presence.phx_ref is
  'The name of this state of the meta, as clients know it (presence_ref).';
comment on column rollcall_internal.channel_presence.meta is
  'The tracked value; null where jsonb cannot represent it (\u0000, lone surrogates, numbers beyond numeric).';
comment on column rollcall_internal.channel_presence.payload is 'The same value as the text that the client sent.';
comment on column rollcall_internal.channel_presence.user_id is 'The sub of the channel''s token, where it is a UUID.';
create index presence_topic on rollcall_internal.channel_presence (topic, private, key);
create index presence_user_id on rollcall_internal.channel_presence (user_id) where user_id is not null;
alter table rollcall_internal.channel_presence enable row level security;
create policy "own channel presence" on rollcall_internal.channel_presence for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role reads" on rollcall_internal.channel_presence for select to service_role using (true);
revoke all on rollcall_internal.channel_presence from anon, authenticated, service_role;
grant select on rollcall_internal.channel_presence to anon, authenticated, service_role;

-- Invoker: shows what the policies on rollcall_internal.channel_presence show.
create view rollcall.presence with (security_invoker = true) as
  select p.node, p.channel, p.topic, p.private, p.key, p.phx_ref, p.meta, p.payload, p.user_id, p.joined_at,
    p.updated_at
  from rollcall_internal.channel_presence p;
comment on view rollcall.presence is 'What each realtime channel tracks, one row per meta, also on nodes that ended.';
revoke all on rollcall.presence from anon, authenticated, service_role;
grant select on rollcall.presence to anon, authenticated, service_role;

-- A node that has just started, or whose rows were lost, has no row here until it has written all of its rows.
-- Unlogged as the rows are, so both are lost together.
create unlogged table rollcall_internal.channel_nodes (
  node uuid primary key,
  generation text not null default pg_current_xact_id()::text
);
comment on table rollcall_internal.channel_nodes is
  'Nodes whose rows in channel_presence are complete. The generation changes when they are rewritten. Unlogged.';
-- No policies: only the server reads it.
alter table rollcall_internal.channel_nodes enable row level security;

-- Invoker: shows what the policies on rollcall_internal.channel_presence show.
create view rollcall.channel_presence with (security_invoker = true) as
  select p.topic, p.private, p.key, p.meta, p.user_id, p.joined_at, p.updated_at, p.phx_ref, p.node, p.channel
  from rollcall_internal.channel_presence p
  where rollcall.any_node_lives(array[p.node]);
comment on view rollcall.channel_presence is
  'Who is present in realtime channels now, on living nodes, one row per meta.';
revoke all on rollcall.channel_presence from anon, authenticated, service_role;
grant select on rollcall.channel_presence to authenticated, service_role;

-- Invoker: counts what the policies on rollcall.presence show.
create view rollcall.channel_occupancy with (security_invoker = true) as
  select p.topic, p.private, count(distinct p.key) as keys, count(*) as metas
  from rollcall.channel_presence p
  group by p.topic, p.private;
comment on view rollcall.channel_occupancy is
  'How many are present in each realtime channel now: presence keys, and metas (channels that track something).';
revoke all on rollcall.channel_occupancy from anon, authenticated, service_role;
grant select on rollcall.channel_occupancy to authenticated, service_role;

-- Writing -------------------------------------------------------------------------------------------------------------

-- Invoker: computes from its argument.
create function rollcall_internal.jsonb_or_null(p_text text) returns jsonb
  language plpgsql immutable strict security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return p_text::jsonb;
exception when others then
  return null;
end
$$;
comment on function rollcall_internal.jsonb_or_null is 'Text as jsonb, or null where jsonb cannot represent it.';

-- At most 350 channels per notification.
-- Invoker: called by definer functions only.
create function rollcall_internal.notify_channel_presence(p_node uuid, p_channels bigint[]) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.notify('rollcall_channels', p_node || ' ' || string_agg(c.channel::text, ','))
  from (
    select channel, (row_number() over () - 1) / 350 as part from unnest(p_channels) as channel
  ) c
  group by c.part;
end
$$;
comment on function rollcall_internal.notify_channel_presence is
  'Notifies the other nodes which rows of a node to read again.';

-- Each channel at most once: those in p_gone track nothing any more, the others what the arrays say. With p_notify the
-- other nodes are notified, if there are any; a node that reads the initial state waits for writers that began before
-- (wait_for_channel_writers). The commit need not wait for the disk: the rows do not survive a crash.
-- Definer: only the server writes these rows.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.write_channel_presence(
  p_node uuid, p_gone bigint[], p_channel bigint[], p_topic text[], p_private boolean[], p_key text[], p_ref text[],
  p_payload text[], p_user uuid[], p_joined timestamptz[], p_updated timestamptz[], p_notify boolean
) returns void
  language plpgsql volatile security definer set lock_timeout = '5s'
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  perform set_config('synchronous_commit', 'off', true);
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.channel_presence', 0));
  if pg_catalog.cardinality(p_gone) > 0 then
    delete from rollcall_internal.channel_presence p where p.node = p_node and p.channel = any (p_gone);
  end if;
  if pg_catalog.cardinality(p_channel) > 0 then
    begin
      insert into rollcall_internal.channel_presence as p
          (node, channel, topic, private, key, phx_ref, meta, payload, user_id, joined_at, updated_at)
        select p_node, o.channel, o.topic, o.private, o.key, o.ref, o.payload::pg_catalog.jsonb, o.payload, o.usr,
          o.joined,
          o.updated
        from unnest(p_channel, p_topic, p_private, p_key, p_ref, p_payload, p_user, p_joined, p_updated)
          as o (channel, topic, private, key, ref, payload, usr, joined, updated)
        on conflict (node, channel) do update set
          phx_ref = excluded.phx_ref, meta = excluded.meta, payload = excluded.payload, user_id = excluded.user_id,
          updated_at = excluded.updated_at
        where p.phx_ref <> excluded.phx_ref;
    exception when others then
      -- A payload that jsonb cannot represent must not block the others.
      insert into rollcall_internal.channel_presence as p
          (node, channel, topic, private, key, phx_ref, meta, payload, user_id, joined_at, updated_at)
        select p_node, o.channel, o.topic, o.private, o.key, o.ref, rollcall_internal.jsonb_or_null(o.payload),
          o.payload, o.usr,
          o.joined, o.updated
        from unnest(p_channel, p_topic, p_private, p_key, p_ref, p_payload, p_user, p_joined, p_updated)
          as o (channel, topic, private, key, ref, payload, usr, joined, updated)
        on conflict (node, channel) do update set
          phx_ref = excluded.phx_ref, meta = excluded.meta, payload = excluded.payload, user_id = excluded.user_id,
          updated_at = excluded.updated_at
        where p.phx_ref <> excluded.phx_ref;
    end;
  end if;
  if p_notify and exists (select from rollcall_internal.nodes n where n.id <> p_node) then
    perform rollcall_internal.notify_channel_presence(p_node, p_gone || p_channel);
  end if;
end
$$;
comment on function rollcall_internal.write_channel_presence is 'Writes a batch of channel presence of a node.';

-- Rows of channels that are not in p_channels are deleted, and the other nodes read all. On false nothing has changed
-- and the node must start again.
-- Definer: only the server writes these rows.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.complete_channel_presence(p_node uuid, p_channels bigint[]) returns boolean
  language plpgsql volatile security definer set lock_timeout = '5s'
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  perform set_config('synchronous_commit', 'off', true);
  -- Locked until the commit: the deletion of the node waits for it and then finds it in channel_nodes. Before the
  -- advisory lock, as in a deletion of nodes (remove_dead_nodes): the other order ends in a deadlock.
  perform from rollcall_internal.nodes n where n.id = p_node for key share;
  if not found then
    return false;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.channel_presence', 0));
  delete from rollcall_internal.channel_presence p
    where p.node = p_node and p.channel not in (select channel from pg_catalog.unnest(p_channels) as channel);
  if (select count(*) from rollcall_internal.channel_presence p where p.node = p_node)
    <> pg_catalog.cardinality(p_channels)
  then
    return false;
  end if;
  insert into rollcall_internal.channel_nodes (node) values (p_node)
    on conflict (node) do update set generation = excluded.generation;
  perform rollcall_internal.notify('rollcall_channels', p_node || ' *');
  return true;
end
$$;
comment on function rollcall_internal.complete_channel_presence is
  'Ends a complete rewrite of a nodes rows; false when rows or its lease were lost meanwhile.';

-- The other nodes need not wait for its lease to expire.
-- Definer: only the server writes these rows.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.leave_channel_presence(p_node uuid) returns void
  language plpgsql volatile security definer set lock_timeout = '5s'
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  perform set_config('synchronous_commit', 'off', true);
  delete from rollcall_internal.channel_nodes c where c.node = p_node;
  delete from rollcall_internal.channel_presence p where p.node = p_node;
  perform rollcall_internal.notify('rollcall_channels', p_node || ' *');
end
$$;
comment on function rollcall_internal.leave_channel_presence is 'Deletes the channel presence of a node that stops.';

-- What is read afterwards is complete except for writes that notify.
-- Definer: the lock belongs to the server.
create function rollcall_internal.wait_for_channel_writers() returns void
  language sql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
  select pg_advisory_xact_lock(hashtextextended('rollcall.channel_presence', 0))
$$;
comment on function rollcall_internal.wait_for_channel_writers is
  'Waits for writes of channel presence that have begun.';

-- Dead nodes ----------------------------------------------------------------------------------------------------------

-- A node that was only cut off finds that it is no longer in channel_nodes, and writes all rows again. Waits for
-- writes that have begun, so that none of them leaves rows behind.
-- Definer: only the server writes these rows.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.remove_dead_nodes() returns trigger
  language plpgsql security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  if not exists (select from old_rows) then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.channel_presence', 0));
  delete from rollcall_internal.channel_nodes c where c.node in (select g.id from old_rows g);
  delete from rollcall_internal.channel_presence p where p.node in (select g.id from old_rows g);
  return null;
end
$$;
comment on function rollcall_internal.remove_dead_nodes is
  'Trigger function: deletes the channel presence of deleted nodes.';

create trigger remove_dead_nodes after delete on rollcall_internal.nodes
  referencing old table as old_rows
  for each statement execute function rollcall_internal.remove_dead_nodes();

-- Definer: see remove_dead_nodes.
create function rollcall_internal.reset_channel_nodes() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from rollcall_internal.channel_nodes;
  return null;
end
$$;
comment on function rollcall_internal.reset_channel_nodes is
  'Trigger function: after TRUNCATE every node writes its channel presence again.';

create trigger reset_channel_nodes after truncate on rollcall_internal.channel_presence
  for each statement execute function rollcall_internal.reset_channel_nodes();

-- Events --------------------------------------------------------------------------------------------------------------

-- Events about channels come from these rows, so they are written in the batches of the nodes and not when a client
-- tracks. What is written twice, or by two nodes at once, is compared with event_members, so that each change of the
-- rows is one event. After a crash of PostgreSQL members may leave and join again in the events.

create unlogged table rollcall_internal.changed_topics (
  topic text not null,
  private boolean not null
);
comment on table rollcall_internal.changed_topics is
  'Topics whose members changed since publish_events compared them, possibly several times. Unlogged, as the members.';
-- No policies: only the server uses it.
alter table rollcall_internal.changed_topics enable row level security;

create table rollcall_internal.event_members (
  topic text not null,
  private boolean not null,
  key text not null,
  user_id uuid,
  constraint event_members_pkey primary key (topic, private, key)
);
comment on table rollcall_internal.event_members is 'Members of channels as events told: one row per presence key.';
-- No policies: only the server uses it.
alter table rollcall_internal.event_members enable row level security;

-- Definer: appends to a table that no API role may write.
create function rollcall_internal.on_members_inserted() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (select s.records_channels from rollcall.event_settings s) then
    insert into rollcall_internal.changed_topics (topic, private) select distinct n.topic, n.private from new_rows n;
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_members_inserted is 'Trigger function: notes topics with new members.';

-- Definer: appends to a table that no API role may write.
create function rollcall_internal.on_members_deleted() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (select s.records_channels from rollcall.event_settings s) then
    insert into rollcall_internal.changed_topics (topic, private) select distinct o.topic, o.private from old_rows o;
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_members_deleted is 'Trigger function: notes topics whose members left.';

create trigger note_members_after_insert after insert on rollcall_internal.channel_presence
  referencing new table as new_rows for each statement execute function rollcall_internal.on_members_inserted();
create trigger note_members_after_delete after delete on rollcall_internal.channel_presence
  referencing old table as old_rows for each statement execute function rollcall_internal.on_members_deleted();

-- Definer: writes tables of the server; called by refresh_event_settings.
create function rollcall_internal.forget_channel_members(p_record boolean) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from rollcall_internal.changed_topics;
  delete from rollcall_internal.event_members;
  if p_record then
    -- Who is present already causes no event.
    insert into rollcall_internal.event_members (topic, private, key, user_id)
      select distinct on (p.topic, p.private, p.key) p.topic, p.private, p.key, p.user_id
      from rollcall_internal.channel_presence p order by p.topic, p.private, p.key, p.joined_at
      on conflict do nothing;
  end if;
end
$$;
comment on function rollcall_internal.forget_channel_members is 'Starts or ends events about members of channels.';

-- Over 60 lines: one statement, so that topics, members and what was told are of one snapshot.
-- Definer: writes tables of the server; called by publish_events under its lock.
create function rollcall_internal.publish_channel_events(p_all boolean) returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  if not (select s.records_channels from rollcall.event_settings s) then
    return 0;
  end if;
  with changed as (delete from rollcall_internal.changed_topics c returning c.topic, c.private),
  topic as materialized (
    select c.topic, c.private from changed c
    union select p.topic, p.private from rollcall_internal.channel_presence p where p_all
    union select m.topic, m.private from rollcall_internal.event_members m where p_all
  ),
  now_there as materialized (
    select distinct on (p.topic, p.private, p.key) p.topic, p.private, p.key, p.user_id
    from topic t
    join rollcall_internal.channel_presence p on p.topic = t.topic and p.private = t.private
    order by p.topic, p.private, p.key, p.joined_at
  ),
  before as materialized (
    select m.* from topic t join rollcall_internal.event_members m on m.topic = t.topic and m.private = t.private
  ),
  joined as (
    insert into rollcall_internal.event_members (topic, private, key, user_id)
      select n.* from now_there n
      where not exists (select from before b where (b.topic, b.private, b.key) = (n.topic, n.private, n.key))
      returning topic, private, key, user_id
  ),
  gone as (
    delete from rollcall_internal.event_members m using before b
      where (m.topic, m.private, m.key) = (b.topic, b.private, b.key)
        and not exists (select from now_there n where (n.topic, n.private, n.key) = (b.topic, b.private, b.key))
      returning m.topic, m.private, m.key, m.user_id
  ),
  change as (
    select 1 as place, 'channel.occupied' as type, t.topic, t.private, null::text as key, null::uuid as user_id
    from topic t
    where exists (select from now_there n where n.topic = t.topic and n.private = t.private)
      and not exists (select from before b where b.topic = t.topic and b.private = t.private)
    union all select 2, 'member.joined', j.* from joined j
    union all select 3, 'member.left', g.* from gone g
    union all
    select 4, 'channel.vacated', t.topic, t.private, null, null from topic t
    where exists (select from before b where b.topic = t.topic and b.private = t.private)
      and not exists (select from now_there n where n.topic = t.topic and n.private = t.private)
  ),
  event as (
    select c.*, jsonb_build_object('topic', c.topic, 'private', c.private) || case when c.key is null then '{}'
      else jsonb_build_object('key', c.key, 'user_id', c.user_id) end as data
    from change c
  )
  insert into rollcall_internal.events (type, user_id, topic, data, occurred_at, bytes_until)
  select e.type, e.user_id, e.topic, e.data, clock_timestamp(), rollcall_internal.event_bytes()
    + sum(octet_length(e.data::text) + 64) over (order by e.topic, e.private, e.place, e.key rows unbounded preceding)
  from event e
  order by e.topic, e.private, e.place, e.key;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.publish_channel_events is
  'Compares the members of changed topics, or of all, with those that were told; returns the number of new events.';
