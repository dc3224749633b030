-- Who is present in realtime channels, as rows: for SQL, and for the server's nodes, which learn from them who is present
-- on the others.
-- Invariants: a node's rows are written by that node alone, in batches that tell the other nodes in the same transaction;
-- they end with the node's row in presence_nodes. Sockets never wait for any of this.

-- Unlogged: after a crash of the database the nodes write again what they hold.
create unlogged table rollcall.presence (
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
comment on table rollcall.presence is
  'What each realtime channel tracks, a row a meta. Derived: the nodes write it, nobody else can. A channel is a join of '
  'one socket; several may use one key.';
comment on column rollcall.presence.topic is 'The name of the channel without realtime:.';
comment on column rollcall.presence.channel is 'The channel''s number on its node.';
comment on column rollcall.presence.phx_ref is 'The name of this state of the meta, as clients know it (presence_ref).';
comment on column rollcall.presence.meta is
  'What is tracked; null in the rare case that jsonb cannot hold it (\u0000, half a surrogate pair, numbers beyond numeric).';
comment on column rollcall.presence.payload is 'The same as the text that the client sent.';
comment on column rollcall.presence.user_id is 'The sub of the channel''s token, where that is a UUID.';
create index presence_room on rollcall.presence (topic, private, key);
create index presence_user_id on rollcall.presence (user_id) where user_id is not null;

-- Who may ask in SQL who is in a channel? Not everybody who may be in it: on Supabase the right to see presence is a policy
-- on realtime.messages that looks at realtime.topic(), a setting of the session and not a column of a row, so it cannot be
-- asked about many topics at once. So service_role sees all, everybody their own, and a DBA adds what the application needs:
--   create policy "members see who is there" on rollcall.presence for select to authenticated
--     using (private and exists (select from members m where m.room = presence.topic and m.user_id = (select auth.uid())));
alter table rollcall.presence enable row level security;
create policy "own channel presence" on rollcall.presence for select to authenticated
  using (user_id = (select auth.uid()));
grant select on rollcall.presence to anon, authenticated, service_role;

insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence', 'user_id', true, null, 'lasts as long as its channel is open');

-- Nodes whose rows are complete: one that has just started, or whose rows were lost, has none here until it has written
-- all. Unlogged as the rows are, so both are lost together.
create unlogged table rollcall.channel_nodes (
  node uuid primary key,
  generation text not null default pg_current_xact_id()::text
);
comment on table rollcall.channel_nodes is
  'Nodes whose rows in rollcall.presence are complete. The generation changes when they were written anew.';
-- No policies: only the server needs to know.
alter table rollcall.channel_nodes enable row level security;

-- Who is present in channels now, on living nodes.
-- Invoker: shows what the policies on rollcall.presence show.
create view rollcall.channel_presence with (security_invoker = true) as
  select p.topic, p.private, p.key, p.meta, p.user_id, p.joined_at, p.updated_at, p.phx_ref, p.node, p.channel
  from rollcall.presence p
  where rollcall.any_node_lives(array[p.node]);
comment on view rollcall.channel_presence is 'Who is present in realtime channels now: a row a meta.';
grant select on rollcall.channel_presence to authenticated, service_role;

-- Writing ------------------------------------------------------------------------------------------------------------

-- Text as jsonb, or null where jsonb cannot hold it. Invoker: computes.
create function rollcall.jsonb_or_null(p_text text) returns jsonb
  language plpgsql immutable strict security invoker set search_path = ''
as $$
begin
  return p_text::jsonb;
exception when others then
  return null;
end
$$;

-- Tells the other nodes which rows of p_node to read again. Many are told in several notifications: one holds 8,000 bytes.
-- Invoker: called by the functions below only.
create function rollcall.tell_channel_nodes(p_node uuid, p_channels bigint[]) returns void
  language sql volatile security invoker set search_path = ''
as $$
  select pg_notify('rollcall_channels', p_node || ' ' || string_agg(c.channel::text, ','))
  from (
    select channel, (row_number() over () - 1) / 350 as part from unnest(p_channels) as channel
  ) c
  group by c.part
$$;

-- Writes a batch of a node's channels, each at most once: those in p_gone track nothing any more, the others what the
-- arrays say. With p_tell the other nodes hear of it, if there are any: a node that is about to read what there is waits
-- for whoever has begun without knowing of it (rollcall.await_channel_writers).
-- Whoever commits this need not wait for the disk: the rows do not outlive a crash anyway.
-- Definer: the rows are the server's.
create function rollcall.write_channel_presence(
  p_node uuid, p_gone bigint[], p_channel bigint[], p_topic text[], p_private boolean[], p_key text[], p_ref text[],
  p_payload text[], p_user uuid[], p_joined timestamptz[], p_updated timestamptz[], p_tell boolean
) returns void
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '5s'
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.channel_presence', 0));
  if cardinality(p_gone) > 0 then
    delete from rollcall.presence p where p.node = p_node and p.channel = any (p_gone);
  end if;
  if cardinality(p_channel) > 0 then
    begin
      insert into rollcall.presence as p
          (node, channel, topic, private, key, phx_ref, meta, payload, user_id, joined_at, updated_at)
        select p_node, o.channel, o.topic, o.private, o.key, o.ref, o.payload::jsonb, o.payload, o.usr, o.joined, o.updated
        from unnest(p_channel, p_topic, p_private, p_key, p_ref, p_payload, p_user, p_joined, p_updated)
          as o (channel, topic, private, key, ref, payload, usr, joined, updated)
        on conflict (node, channel) do update set
          phx_ref = excluded.phx_ref, meta = excluded.meta, payload = excluded.payload, user_id = excluded.user_id,
          updated_at = excluded.updated_at
        where p.phx_ref <> excluded.phx_ref;
    exception when others then
      -- One that jsonb cannot hold must not keep the others out.
      insert into rollcall.presence as p
          (node, channel, topic, private, key, phx_ref, meta, payload, user_id, joined_at, updated_at)
        select p_node, o.channel, o.topic, o.private, o.key, o.ref, rollcall.jsonb_or_null(o.payload), o.payload, o.usr,
          o.joined, o.updated
        from unnest(p_channel, p_topic, p_private, p_key, p_ref, p_payload, p_user, p_joined, p_updated)
          as o (channel, topic, private, key, ref, payload, usr, joined, updated)
        on conflict (node, channel) do update set
          phx_ref = excluded.phx_ref, meta = excluded.meta, payload = excluded.payload, user_id = excluded.user_id,
          updated_at = excluded.updated_at
        where p.phx_ref <> excluded.phx_ref;
    end;
  end if;
  if p_tell and exists (select from public.presence_nodes n where n.id <> p_node) then
    perform rollcall.tell_channel_nodes(p_node, p_gone || p_channel);
  end if;
end
$$;

-- Ends a complete rewrite of a node's rows: what is not in p_channels goes, and the others read all. False, and nothing has
-- happened, when rows of it or its lease were lost meanwhile: then it has to begin anew.
-- Definer: the rows are the server's.
create function rollcall.complete_channel_presence(p_node uuid, p_channels bigint[]) returns boolean
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '5s'
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.channel_presence', 0));
  -- Kept until the commit: whoever ends the node after it finds it in channel_nodes.
  perform from public.presence_nodes n where n.id = p_node for key share;
  if not found then
    return false;
  end if;
  delete from rollcall.presence p
    where p.node = p_node and p.channel not in (select channel from unnest(p_channels) as channel);
  if (select count(*) from rollcall.presence p where p.node = p_node) <> cardinality(p_channels) then
    return false;
  end if;
  insert into rollcall.channel_nodes (node) values (p_node)
    on conflict (node) do update set generation = excluded.generation;
  perform pg_notify('rollcall_channels', p_node || ' *');
  return true;
end
$$;

-- A node takes its leave: nobody of it is present any more, and the others need not wait for its lease to lapse.
-- Definer: the rows are the server's.
create function rollcall.leave_channel_presence(p_node uuid) returns void
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '5s'
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  delete from rollcall.channel_nodes c where c.node = p_node;
  delete from rollcall.presence p where p.node = p_node;
  perform pg_notify('rollcall_channels', p_node || ' gone');
end
$$;

-- Waits for every write that has begun. What is read after it is complete but for writes that tell of themselves.
-- Definer: the lock's name is the server's.
create function rollcall.await_channel_writers() returns void
  language sql volatile security definer set search_path = '' set lock_timeout = '5s'
as $$
  select pg_advisory_xact_lock(hashtextextended('rollcall.channel_presence', 0))
$$;

-- Ending -------------------------------------------------------------------------------------------------------------

-- A node that is no more has nobody present. One that was only cut off finds that it is not in channel_nodes any more, and
-- writes all again. Waits for writes that have begun, so that none of them leaves half of its rows behind.
-- Definer: the rows are the server's.
create function rollcall.end_channel_nodes() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  if not exists (select from gone) then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.channel_presence', 0));
  delete from rollcall.channel_nodes c where c.node in (select g.id from gone g);
  delete from rollcall.presence p where p.node in (select g.id from gone g);
  return null;
end
$$;
create trigger end_channel_nodes after delete on public.presence_nodes
  referencing old table as gone
  for each statement execute function rollcall.end_channel_nodes();

-- Whoever empties the table makes every node write its rows again. Definer: see end_channel_nodes.
create function rollcall.forget_channel_nodes() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  delete from rollcall.channel_nodes;
  return null;
end
$$;
create trigger forget_channel_nodes after truncate on rollcall.presence
  for each statement execute function rollcall.forget_channel_nodes();

revoke execute on all functions in schema rollcall from public;
