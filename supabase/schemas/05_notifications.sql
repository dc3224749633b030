-- Module: channels
-- How the database notifies nodes. A notification says which rows to read; it never carries content. Every login of the
-- database may LISTEN and NOTIFY, so payloads are authenticated, and IDs of users in them are masked.
-- src/pg/notification.rs reads what these functions send.

create table rollcall_internal.notification_key (
  singleton boolean not null default true constraint notification_key_pkey primary key check (singleton),
  key bytea not null default sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
  log_token uuid not null default gen_random_uuid()
);
comment on table rollcall_internal.notification_key is
  'The key that authenticates notifications and masks IDs in them. Nodes read it when they connect.';
comment on column rollcall_internal.notification_key.log_token is
  'Authenticates messages in the write-ahead log, which only roles that may replicate can read.';
-- No policies: for the functions below and the server.
alter table rollcall_internal.notification_key enable row level security;
insert into rollcall_internal.notification_key default values;

-- Functions that each notification calls are in PL/pgSQL, which keeps plans: one in SQL that is not inlined is parsed
-- and planned in every statement.

-- Invoker: computes a random value.
create function rollcall_internal.notification_nonce() returns text
  language plpgsql volatile security invoker
as $$
begin
  return pg_catalog.left(pg_catalog.replace(pg_catalog.gen_random_uuid()::pg_catalog.text, '-', ''), 16);
end
$$;
comment on function rollcall_internal.notification_nonce is 'A random value that is used for one notification.';

-- Values are at most 32 bytes in hexadecimal. Each is combined with a hash of the key, the nonce and its number. A loop
-- costs a tenth of a query for few values, and no more for many.
-- Definer: reads the key.
create function rollcall_internal.mask(p_nonce text, p_values text[]) returns text[]
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_key constant bytea := (select k.key from rollcall_internal.notification_key k);
  v_hash text;
  v_masked text[];
begin
  for v_at in 1 .. coalesce(cardinality(p_values), 0) loop
    v_hash := left(encode(sha256(v_key || convert_to(p_nonce || '#' || v_at, 'UTF8')), 'hex'), length(p_values[v_at]));
    v_masked[v_at] := encode(substr(varbit_send(('x' || p_values[v_at])::varbit # ('x' || v_hash)::varbit), 5), 'hex');
  end loop;
  return v_masked;
end
$$;
comment on function rollcall_internal.mask is 'Values of a notification, unreadable without the key.';

-- Invoker: see mask.
create function rollcall_internal.mask_ids(p_nonce text, p_ids uuid[]) returns text[]
  language plpgsql stable security invoker
as $$
begin
  return rollcall_internal.mask(p_nonce, pg_catalog.replace(p_ids::pg_catalog.text, '-', '')::pg_catalog.text[]);
end
$$;
comment on function rollcall_internal.mask_ids is 'IDs of a notification, unreadable without the key.';

-- The relay: one node that reads notifications from the write-ahead log and sends them for everybody. A transaction
-- that calls pg_notify holds a lock of the whole server until its commit is on disk, so that all such transactions
-- commit one after the other; a logical message takes no lock.
create table rollcall_internal.relay (
  singleton boolean not null default true constraint relay_pkey primary key check (singleton),
  node uuid,
  claimed_until timestamptz not null default '-infinity',
  read_until timestamptz not null default '-infinity',
  relayed_until timestamptz not null default '-infinity',
  missed_since timestamptz,
  unordered_until timestamptz not null default '-infinity'
)
with (fillfactor = 10);
comment on table rollcall_internal.relay is 'The node that relays notifications. One row.';
comment on column rollcall_internal.relay.claimed_until is 'Until then no other node may become the relay.';
comment on column rollcall_internal.relay.read_until is 'The relay has sent what was committed before.';
comment on column rollcall_internal.relay.relayed_until is
  'Until then transactions write notifications to the write-ahead log; later they send them.';
comment on column rollcall_internal.relay.missed_since is
  'Notifications since this time may be in the log without having been sent. Null when there are none.';
comment on column rollcall_internal.relay.unordered_until is
  'Until then a notification may arrive before one that was committed earlier, because only one of them was relayed.';
-- No policies: for the functions below and the server.
alter table rollcall_internal.relay enable row level security;
insert into rollcall_internal.relay default values;

-- The stream of the relay needs a publication. This one has no table, because the relay reads messages only.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'rollcall_relay') then
    create publication rollcall_relay;
    insert into rollcall_internal.installed_objects (kind, name, undo)
    values ('publication', 'rollcall_relay', 'drop publication if exists rollcall_relay');
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create a publication: transactions send notifications themselves';
end
$$;

-- Payload: `<code>.<nonce>.<body>`. The default nonce is the transaction, so that equal bodies of one transaction are
-- sent once. A body with masked values needs the nonce of the mask.
-- Invoker: computes from the key of its caller.
create function rollcall_internal.seal(p_key bytea, p_channel text, p_body text, p_nonce text) returns text
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return concat(left(encode(
      sha256(p_key || sha256(p_key || convert_to(concat(p_channel, ':', p_nonce, ':', p_body), 'UTF8'))), 'hex'), 16),
    '.', p_nonce, '.', p_body);
end
$$;
comment on function rollcall_internal.seal is 'The authenticated payload of a notification.';

-- Sends when the transaction commits: through the relay if a node is the relay, else by NOTIFY. Sessions of the server
-- set rollcall.notify to `directly`; there are few of them, and their transactions are batches already. The relay seals
-- the notifications, because that takes longer than to write them to the log.
-- Invoker, with the search_path of its caller, because it costs less in the transactions of applications: only definer
-- functions call it.
create function rollcall_internal.notify(p_channel text, p_body text, p_nonce text default null) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_nonce constant pg_catalog.text := coalesce(p_nonce, pg_catalog.pg_current_xact_id()::pg_catalog.text);
  v_key pg_catalog.bytea;
  v_log_token pg_catalog.uuid;
  v_relayed boolean;
  v_void pg_catalog.text;
begin
  select k.key, k.log_token, r.relayed_until > pg_catalog.clock_timestamp()
      and pg_catalog.current_setting('rollcall.notify', true) is distinct from 'directly'
    into strict v_key, v_log_token, v_relayed
  from rollcall_internal.notification_key k cross join rollcall_internal.relay r;
  if v_relayed then
    v_void := pg_catalog.pg_logical_emit_message(true, 'rollcall',
      pg_catalog.concat_ws(' ', v_log_token, p_channel, v_nonce, p_body));
  else
    perform pg_catalog.pg_notify(p_channel, rollcall_internal.seal(v_key, p_channel, p_body, v_nonce));
  end if;
end
$$;
comment on function rollcall_internal.notify is 'Sends an authenticated notification to the nodes.';

-- While the relay is behind, or was a moment ago, a notification that was sent directly may overtake one that was
-- committed before it. Not longer than two minutes after a relay that nobody replaces.
-- Definer: called by the server.
create function rollcall_internal.notifications_are_unordered() returns boolean
  language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select r.unordered_until > clock_timestamp()
    or (r.relayed_until < clock_timestamp() and r.relayed_until > clock_timestamp() - interval '2 minutes')
    or coalesce(r.missed_since > clock_timestamp() - interval '2 minutes', false)
  from rollcall_internal.relay r
$$;
comment on function rollcall_internal.notifications_are_unordered is
  'Whether a notification may arrive before one that was committed earlier.';

-- For notifications that are rare and must not be missed.
-- Definer: reads the key; called from triggers of any writer.
create function rollcall_internal.notify_directly(p_channel text, p_body text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify(p_channel, rollcall_internal.seal(k.key, p_channel, p_body, pg_current_xact_id()::text))
  from rollcall_internal.notification_key k;
end
$$;
comment on function rollcall_internal.notify_directly is
  'Sends an authenticated notification, never through the relay.';

-- A notification that others before it may be missing. Each has its own nonce, because nodes accept a payload once.
-- Definer: called by the server.
create function rollcall_internal.notify_missed(p_since timestamptz) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('rollcall_missed', rollcall_internal.seal(k.key, 'rollcall_missed',
    greatest(0, ceil(extract(epoch from clock_timestamp() - p_since) * 1000))::bigint::text,
    rollcall_internal.notification_nonce()))
  from rollcall_internal.notification_key k;
end
$$;
comment on function rollcall_internal.notify_missed is
  'Tells the nodes for how many milliseconds they may have missed notifications.';

-- The session of the relay holds this advisory lock, so other nodes find at once that its process has ended.
-- Invoker: computes from its argument.
create function rollcall_internal.relay_lock(p_node uuid) returns bigint
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select hashtextextended('rollcall.relay ' || p_node, 0)
$$;
comment on function rollcall_internal.relay_lock is 'The advisory lock that a node holds while it is the relay.';

-- The claim of a node, which it repeats until it has a stream. While notifications may be missing, each call makes the
-- nodes read the tables. A relay that has started is replaced when its lease or its session has ended.
-- Definer: called by the server.
create function rollcall_internal.claim_relay(p_node uuid, p_claim interval) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set synchronous_commit = 'off'
as $$
declare
  v_missed_since timestamptz;
begin
  update rollcall_internal.relay r
  set node = p_node,
    claimed_until = clock_timestamp() + p_claim,
    missed_since = case when r.relayed_until > '-infinity' then least(r.missed_since, r.read_until)
      else r.missed_since end,
    relayed_until = '-infinity'
  where r.node = p_node or r.claimed_until < clock_timestamp()
    or r.relayed_until > '-infinity' and pg_try_advisory_xact_lock_shared(rollcall_internal.relay_lock(r.node))
  returning r.missed_since into v_missed_since;
  if not found then
    return false;
  end if;
  if v_missed_since is not null then
    perform rollcall_internal.notify_missed(v_missed_since);
  end if;
  return true;
end
$$;
comment on function rollcall_internal.claim_relay is
  'Makes a node the next relay, unless another one is; returns whether it is.';

-- Called when the stream has started: everything that commits from now on is in it, the rest is read from the tables.
-- Called once per session, which holds the lock of the relay.
-- Definer: called by the server.
create function rollcall_internal.start_relay(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set synchronous_commit = 'off'
as $$
declare
  v_missed_since timestamptz;
begin
  -- Before the lock of the row, as in claim_relay.
  perform pg_advisory_lock(rollcall_internal.relay_lock(p_node));
  select r.missed_since into v_missed_since from rollcall_internal.relay r where r.node = p_node for update;
  if not found then
    return false;
  end if;
  if v_missed_since is not null then
    perform rollcall_internal.notify_missed(v_missed_since);
  end if;
  update rollcall_internal.relay
  set read_until = clock_timestamp(), claimed_until = clock_timestamp() + p_lease,
    relayed_until = clock_timestamp() + p_lease, missed_since = null,
    unordered_until = clock_timestamp() + interval '2 seconds'
  where node = p_node;
  return true;
end
$$;
comment on function rollcall_internal.start_relay is
  'From now on transactions write notifications to the log; returns whether the node still has its claim.';

-- Also sends when another node has taken over, which may not have these. A transaction is in the log a moment before
-- other sessions see its rows; a node that is notified must see them. p_xids: IDs of the transactions without epoch.
-- Definer: called by the server.
create function rollcall_internal.send_relayed(p_channels text[], p_payloads text[], p_xids bigint[]) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set synchronous_commit = 'off'
as $$
declare
  v_snapshot pg_snapshot;
  v_next bigint;
begin
  loop
    v_snapshot := pg_current_snapshot();
    v_next := pg_snapshot_xmax(v_snapshot)::text::bigint;
    -- Each ID has the epoch that makes it nearest to the next one.
    exit when not exists (
      select
      from unnest(p_xids) x (xid)
      cross join lateral (select v_next - ((v_next - x.xid + 2147483648) & 4294967295) + 2147483648) f (full_xid)
      where not pg_visible_in_snapshot(f.full_xid::text::xid8, v_snapshot));
    perform pg_sleep(0.001);
  end loop;
  perform pg_notify(n.channel, n.payload)
  from unnest(p_channels, p_payloads) with ordinality n (channel, payload, number)
  order by n.number;
end
$$;
comment on function rollcall_internal.send_relayed is
  'Sends notifications that the relay read from the log, in this order.';

-- p_read_until: the newest mark that came back, and all before it was sent. A stream that is late therefore ends the
-- lease, and transactions send notifications themselves until it has caught up.
-- Definer: called by the server.
create function rollcall_internal.renew_relay(p_node uuid, p_lease interval, p_read_until timestamptz) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set synchronous_commit = 'off'
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  update rollcall_internal.relay r
  set claimed_until = v_now + p_lease,
    read_until = greatest(r.read_until, least(p_read_until, v_now)),
    relayed_until = greatest(r.relayed_until, least(p_read_until, v_now) + p_lease),
    unordered_until = case when r.relayed_until < v_now then v_now + interval '2 seconds' else r.unordered_until end
  where r.node = p_node;
  if not found then
    return false;
  end if;
  perform pg_logical_emit_message(true, 'rollcall',
    concat_ws(' ', k.log_token, 'rollcall_mark', '-', (extract(epoch from v_now) * 1000000)::bigint))
  from rollcall_internal.notification_key k;
  return true;
end
$$;
comment on function rollcall_internal.renew_relay is
  'Renews the lease of the relay and writes a mark to the log; returns whether the node still is the relay.';

-- Definer: called by the server.
create function rollcall_internal.release_relay(p_node uuid) returns void
  language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  update rollcall_internal.relay r
  set node = null, claimed_until = '-infinity', relayed_until = '-infinity',
    missed_since = case when r.relayed_until > '-infinity' then least(r.missed_since, r.read_until)
      else r.missed_since end
  where r.node = p_node
$$;
comment on function rollcall_internal.release_relay is 'Lets another node become the relay at once.';

-- Invoker: computes from the clock.
create function rollcall_internal.notification_time() returns bigint
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return (extract(epoch from clock_timestamp()) * 1000)::bigint;
end
$$;
comment on function rollcall_internal.notification_time is
  'Now, in milliseconds since 1970. The server measures the delay of notifications by it.';
