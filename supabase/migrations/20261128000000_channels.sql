-- Generated from supabase/schemas by `make schema`; edit those files instead.
-- Needs the roles, the schemas auth and realtime and the table realtime.messages of Supabase, which
-- `rollcall migrate` creates where they are missing.

-- schemas/00_schemas.sql ---------------------------------------------------------------------------------------------

-- The schemas, the history of migrations, and what the installer created outside of them. `rollcall` holds tables,
-- views and functions for users, DBAs and PostgREST. `rollcall_internal` holds trigger functions, logs and queues; API
-- roles have no usage there, because triggers, policies and generated columns call functions without it. Nothing of
-- Rollcall is in public. Every name is qualified; only pg_catalog is implied.

create schema rollcall;
comment on schema rollcall is 'Presence, channels and AI context of Rollcall: tables, views and functions for users.';
grant usage on schema rollcall to anon, authenticated, service_role;
create schema rollcall_internal;
comment on schema rollcall_internal is 'Trigger functions, logs and queues of Rollcall. For the server only.';

create table rollcall_internal.schema_migrations (
  version text not null constraint schema_migrations_pkey primary key,
  name text not null,
  applied_at timestamptz not null default now()
);
comment on table rollcall_internal.schema_migrations is 'The rows of rollcall.schema_migrations.';
-- No policies: for the owner and the doctor.
alter table rollcall_internal.schema_migrations enable row level security;

-- Invoker: for the owner and the doctor.
create view rollcall.schema_migrations with (security_invoker = true) as
  select m.version, m.name, m.applied_at from rollcall_internal.schema_migrations m;
comment on view rollcall.schema_migrations is
  'Migrations of Rollcall that were applied. Each migration inserts its own row, whichever tool applies it.';
revoke all on rollcall.schema_migrations from anon, authenticated, service_role;

-- What the installer or a migration created outside of the two schemas, with the statement that removes it.
-- `rollcall migrate --down` runs these in reverse order.
create table rollcall_internal.installed_objects (
  id bigint generated always as identity constraint installed_objects_pkey primary key,
  kind text not null,
  name text not null,
  undo text not null
);
comment on table rollcall_internal.installed_objects is
  'Objects outside of the schemas of Rollcall that it created, with the statement that removes each.';
-- No policies: for the installer, as the owner.
alter table rollcall_internal.installed_objects enable row level security;

create table rollcall_internal.seed_files (
  path text not null constraint seed_files_pkey primary key,
  hash text not null
);
comment on table rollcall_internal.seed_files is
  'Demo data that was loaded, with the SHA-256 of the file in hexadecimal.';
-- No policies: for the installer, as the owner.
alter table rollcall_internal.seed_files enable row level security;

do $$
begin
  if to_regnamespace('extensions') is null then
    create schema extensions;
    grant usage on schema extensions to anon, authenticated, service_role;
    insert into rollcall_internal.installed_objects (kind, name, undo)
      values ('schema', 'extensions', 'drop schema if exists extensions');
  end if;
end
$$;

-- Search path ---------------------------------------------------------------------------------------------------------

-- Functions set `search_path = pg_catalog, pg_temp`. Without pg_temp in it, PostgreSQL looks for types in the temporary
-- schema of the session first, where any role may create domains whose conditions run with the rights of the function.

-- For definer functions that must not set search_path, because they fire triggers of users or evaluate their policies:
-- types in them are qualified, and so are functions that PostgreSQL could replace by a closer match. Functions and
-- operators of pg_catalog come first: where search_path lists pg_catalog after another schema, it is removed for the
-- rest of the transaction, which makes PostgreSQL search it first. Called in the declaration of a variable, which
-- PL/pgSQL evaluates without an executor: 1 instead of 5 µs for PERFORM. For the same reason, functions that run in
-- frequent writes assign results without a use to v_void.
-- Invoker: changes a setting of the transaction. Its own names are all qualified.
create function rollcall_internal.check_search_path() returns void
  language plpgsql volatile security invoker
as $$
begin
  if pg_catalog.strpos(pg_catalog.current_setting('search_path'), 'pg_catalog') operator(pg_catalog.>) 1 then
    perform pg_catalog.set_config('search_path', coalesce((
      select pg_catalog.string_agg(pg_catalog.quote_ident(s.name::pg_catalog.text), ', ' order by s.place)
      from rows from (pg_catalog.unnest(pg_catalog.current_schemas(false))) with ordinality as s (name, place)
      where s.name operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
    ), ''), true);
  end if;
end
$$;
comment on function rollcall_internal.check_search_path is
  'Removes pg_catalog from search_path for the transaction when another schema comes before it.';

-- For functions without a search_path: the body of auth.uid() on Supabase names types without their schema.
-- Invoker: reads claims.
create function rollcall_internal.caller_id() returns uuid
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  return auth.uid();
end
$$;
comment on function rollcall_internal.caller_id is 'auth.uid(), whatever the search_path.';

-- The one place that decides with which search_path users' code runs when the server reaches it. In the order of
-- PostgreSQL: role in database, role, database; else "$user", public, extensions. SET ROLE does not apply these
-- settings, so the server applies this one. `none` is the login role, as in SET ROLE.
-- Invoker: reads catalogs that every role may read.
create function rollcall.role_search_path(p_role text) returns text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_role constant oid := coalesce((
    select r.oid from pg_catalog.pg_roles r
    where r.rolname = case p_role when 'none' then session_user else p_role end), 0);
begin
  return coalesce(
    (
      select substr(s.entry, length('search_path=') + 1)
      from pg_catalog.pg_db_role_setting d
      cross join lateral unnest(d.setconfig) as s (entry)
      where d.setrole in (0, v_role)
        and d.setdatabase in (0, (select b.oid from pg_catalog.pg_database b where b.datname = current_database()))
        and s.entry like 'search\_path=%'
      order by d.setrole = 0, d.setdatabase = 0
      limit 1
    ),
    '"$user", public, extensions');
end
$$;
comment on function rollcall.role_search_path is
  'The search_path that a role has in this database by ALTER ROLE or ALTER DATABASE.';

grant execute on function rollcall.role_search_path to anon, authenticated, service_role;

-- Times ---------------------------------------------------------------------------------------------------------------

-- Of one length and in UTC, for clients whose readers of ISO 8601 take one form only.
-- Invoker: reads nothing.
create function rollcall.iso_time(p_time timestamptz) returns text
  language sql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp
as $$
  select case when isfinite(p_time) then to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    else p_time::text end
$$;
comment on function rollcall.iso_time is
  'A time as every answer of the server has it: RFC 3339 in UTC with three fractional digits.';
grant execute on function rollcall.iso_time to authenticated, service_role;

-- Generated columns ---------------------------------------------------------------------------------------------------

-- PostgreSQL 18 and later: triggers read such columns as null in the rows that a statement has changed. Earlier
-- versions have no such columns, and no statement pays for the search.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.has_virtual_column(p_table oid, p_columns text[] default null) returns boolean
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('server_version_num')::int < 180000 then
    return false;
  end if;
  return exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = p_table and a.attgenerated = 'v' and a.attnum > 0 and not a.attisdropped
      and (p_columns is null or a.attname::text = any (p_columns)));
end
$$;
comment on function rollcall_internal.has_virtual_column is
  'Whether a table has a virtual generated column, among some columns or all.';

-- Types ---------------------------------------------------------------------------------------------------------------

-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.base_type(p_type oid) returns oid
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  with recursive base (oid, parent) as (
    select t.oid, t.typbasetype from pg_catalog.pg_type t where t.oid = p_type
    union all
    select t.oid, t.typbasetype from base join pg_catalog.pg_type t on t.oid = base.parent
  )
  select base.oid from base where base.parent = 0
$$;
comment on function rollcall_internal.base_type is 'The type itself, or the type that a domain is based on.';

-- format_type would give the name `character` to bpchar, which means one character.
-- Invoker: reads catalogs only.
create function rollcall_internal.type_name(p_type oid) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', n.nspname, t.typname)
  from pg_catalog.pg_type t
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where t.oid = p_type
$$;
comment on function rollcall_internal.type_name is 'The qualified name of a type, for casts.';

-- Triggers, for the doctor --------------------------------------------------------------------------------------------

create table rollcall_internal.triggers (
  relation regclass not null,
  name name not null,
  definition text not null,
  constraint triggers_pkey primary key (relation, name)
);
comment on table rollcall_internal.triggers is
  'Triggers of Rollcall''s tables with their definitions, for rollcall doctor.';
-- No policies: for the doctor, as the owner.
alter table rollcall_internal.triggers enable row level security;

-- Without those of followed tables, which change with policies.
-- Invoker: for the owner.
create function rollcall_internal.record_triggers() returns bigint
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  delete from rollcall_internal.triggers w where true;
  insert into rollcall_internal.triggers (relation, name, definition)
    select t.tgrelid, t.tgname, pg_catalog.pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'rollcall_internal'::regnamespace
    where not t.tgisinternal and t.tgparentid = 0 and t.tgname not like 'rollcall\_%';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.record_triggers is
  'Records the triggers of Rollcalls tables, so that doctor can find and restore missing ones.';

-- schemas/05_notifications.sql ---------------------------------------------------------------------------------------

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

-- schemas/06_nodes.sql -----------------------------------------------------------------------------------------------

-- Servers on this database, and their leases.

-- No foreign keys to auth.users anywhere: tokens may come from an issuer that keeps its accounts elsewhere.
create table rollcall_internal.nodes (
  id uuid primary key,
  started_at timestamptz not null default now(),
  renewed_at timestamptz not null default now(),
  lease_expires_at timestamptz not null
);
comment on table rollcall_internal.nodes is
  'Servers that hold sockets. The lease of a node stands for the liveness of all its devices.';
-- No policies for users: only servers and service_role need nodes.
alter table rollcall_internal.nodes enable row level security;
create policy "service_role has full access" on rollcall_internal.nodes
  for all to service_role using (true) with check (true);
revoke all on rollcall_internal.nodes from anon, authenticated, service_role;
grant all on rollcall_internal.nodes to service_role;

-- Invoker: the policies on rollcall_internal.nodes decide.
create view rollcall.presence_nodes with (security_invoker = true) as
  select n.id, n.started_at, n.renewed_at, n.lease_expires_at from rollcall_internal.nodes n;
comment on view rollcall.presence_nodes is
  'Servers that hold sockets. The lease of a node stands for the liveness of all its devices.';
revoke all on rollcall.presence_nodes from anon, authenticated, service_role;
grant all on rollcall.presence_nodes to service_role;

-- Definer: only the server reads nodes. A random id of a node reveals nothing.
create function rollcall.any_node_lives(p_nodes uuid[]) returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from rollcall_internal.nodes n where n.id = any (p_nodes) and n.lease_expires_at > clock_timestamp()
  )
$$;
comment on function rollcall.any_node_lives is 'Whether one of these nodes holds a lease.';
grant execute on function rollcall.any_node_lives to authenticated, service_role;

-- After an expired lease other nodes may have swept the node's devices, so it must report all its sockets again.
-- Definer: only the server writes nodes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.renew_lease(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  update rollcall_internal.nodes set renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + p_lease
    where id = p_node and lease_expires_at > clock_timestamp();
  if found then
    return true;
  end if;
  insert into rollcall_internal.nodes (id, renewed_at, lease_expires_at)
    values (p_node, clock_timestamp(), clock_timestamp() + p_lease)
    on conflict (id) do update set renewed_at = excluded.renewed_at, lease_expires_at = excluded.lease_expires_at;
  return false;
end
$$;
comment on function rollcall_internal.renew_lease is
  'Takes or renews the lease of a node; false when it had none or it had expired.';

-- schemas/07_events.sql ----------------------------------------------------------------------------------------------

-- Events for back ends: what happened, as rows with a cursor, and webhooks that deliver them. A change appends to
-- event_queue in its own transaction, without a lock that others wait for, and only while somebody wants events.
-- publish_events moves the queue to events under one lock, so that the ids of events follow the commits and no reader
-- of a cursor misses one. Servers call it, claim webhooks one node at a time, and deliver.

-- Settings ------------------------------------------------------------------------------------------------------------

create table rollcall.event_settings (
  singleton boolean not null default true constraint event_settings_pkey primary key check (singleton),
  record_always boolean not null default false,
  presence_sessions boolean not null default false,
  max_age interval not null default interval '3 days'
    constraint event_settings_max_age_is_positive check (max_age > interval '0'),
  max_events int not null default 100000
    constraint event_settings_max_events_is_bounded check (max_events between 1000 and 10000000),
  max_bytes bigint not null default 67108864
    constraint event_settings_max_bytes_is_bounded check (max_bytes between 1048576 and 17179869184),
  records_presence boolean not null default false,
  records_channels boolean not null default false
) with (fillfactor = 50);
comment on table rollcall.event_settings is
  'Which events are recorded and how many are kept. One row. Older events than max_age, and the oldest beyond '
  'max_events or max_bytes, are deleted even if a webhook has not received them.';
comment on column rollcall.event_settings.record_always is
  'Record events without a webhook, for readers of events_after. Default false.';
comment on column rollcall.event_settings.presence_sessions is
  'Record who was online from when to when in presence_sessions. Default false.';
comment on column rollcall.event_settings.records_presence is 'Whether presence is recorded now. Derived.';
comment on column rollcall.event_settings.records_channels is 'Whether members of channels are recorded now. Derived.';
-- No policies for users: for operators.
alter table rollcall.event_settings enable row level security;
create policy "service_role reads" on rollcall.event_settings for select to service_role using (true);
create policy "service_role updates" on rollcall.event_settings for update to service_role
  using (true) with check (true);
revoke all on rollcall.event_settings from anon, authenticated, service_role;
grant select, update (record_always, presence_sessions, max_age, max_events, max_bytes)
  on rollcall.event_settings to service_role;
insert into rollcall.event_settings default values;

-- Events --------------------------------------------------------------------------------------------------------------

create table rollcall_internal.event_queue (
  id bigint generated always as identity primary key,
  type text not null,
  user_id uuid,
  data jsonb not null,
  occurred_at timestamptz not null
);
comment on table rollcall_internal.event_queue is
  'Events that publish_events has not moved to events yet, in the order of their transactions only per user.';
-- No policies: only the server uses it.
alter table rollcall_internal.event_queue enable row level security;

create table rollcall_internal.events (
  id bigint generated always as identity primary key,
  type text not null,
  user_id uuid,
  topic text,
  data jsonb not null,
  occurred_at timestamptz not null,
  bytes_until bigint not null
);
comment on table rollcall_internal.events is
  'Events in the order in which readers see them: a later commit has a greater id. Only publish_events inserts.';
comment on column rollcall_internal.events.bytes_until is 'Bytes of this event and all before it.';
create index events_occurred_at on rollcall_internal.events (occurred_at);
create index events_bytes_until on rollcall_internal.events (bytes_until);
create index events_user_id on rollcall_internal.events (user_id) where user_id is not null;
alter table rollcall_internal.events enable row level security;
create policy "service_role reads" on rollcall_internal.events for select to service_role using (true);
revoke all on rollcall_internal.events from anon, authenticated, service_role;
grant select on rollcall_internal.events to service_role;

-- Invoker: the policies on rollcall_internal.events decide.
create view rollcall.events with (security_invoker = true) as
  select e.id as cursor, e.type, e.occurred_at, e.user_id, e.topic, e.data from rollcall_internal.events e;
comment on view rollcall.events is
  'Events of presence and channels, for back ends. A later commit has a greater cursor; events_after reads in order.';
revoke all on rollcall.events from anon, authenticated, service_role;
grant select on rollcall.events to service_role;

-- Webhooks ------------------------------------------------------------------------------------------------------------

create table rollcall.webhooks (
  id uuid not null default gen_random_uuid() constraint webhooks_pkey primary key,
  url text not null
    constraint webhooks_url_is_http check (url ~* '^https?://[^\s/?#]+[^\s]*$' and char_length(url) <= 2048),
  secret text not null
    default 'whsec_' || encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64')
    constraint webhooks_secret_form check (length(secret) between 38 and 94
      and secret ~ '^whsec_([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?$'),
  previous_secret text
    constraint webhooks_previous_secret_form check (length(previous_secret) between 38 and 94
      and previous_secret ~ '^whsec_([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?$'),
  events text[] not null
    default '{user.online,user.offline,user.status,channel.occupied,channel.vacated,member.joined,member.left}'
    constraint webhooks_events_are_known check (cardinality(events) between 1 and 16 and events <@ array[
      'user.online', 'user.offline', 'user.status', 'channel.occupied', 'channel.vacated', 'member.joined',
      'member.left']),
  filter jsonb not null default '{}'
    constraint webhooks_filter_form check (jsonb_typeof(filter) = 'object' and pg_column_size(filter) <= 65536
      and filter - array['topics', 'user_ids'] = '{}'
      and not jsonb_path_exists(filter, 'strict $.* ? (@.type() <> "array")')
      and not jsonb_path_exists(filter, '$.*[*] ? (@.type() <> "string")')),
  enabled boolean not null default true,
  description text not null default '' constraint webhooks_description_length check (char_length(description) <= 255),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table rollcall.webhooks is
  'URLs that receive events, signed as Standard Webhooks. A new webhook receives what happens from then on.';
comment on column rollcall.webhooks.secret is 'whsec_ and the base64 text of 24 to 64 bytes. Default: a random one.';
comment on column rollcall.webhooks.previous_secret is 'Signs as well, while receivers change to a new secret.';
comment on column rollcall.webhooks.filter is
  'topics: names of channels, also with * at the end. user_ids: IDs. An event without a topic passes topics, and one '
  'without a user passes user_ids. {} passes all.';
-- No policies for users: for operators.
alter table rollcall.webhooks enable row level security;
create policy "service_role has full access" on rollcall.webhooks
  for all to service_role using (true) with check (true);
revoke all on rollcall.webhooks from anon, authenticated, service_role;
grant select, delete, insert (id, url, secret, previous_secret, events, filter, enabled, description),
  update (url, secret, previous_secret, events, filter, enabled, description)
  on rollcall.webhooks to service_role;

create table rollcall_internal.webhook_deliveries (
  webhook_id uuid not null
    constraint webhook_deliveries_pkey primary key references rollcall.webhooks (id) on delete cascade,
  position bigint not null,
  pending_until bigint,
  resending uuid[],
  attempts int not null default 0,
  next_attempt_at timestamptz not null default '-infinity',
  leased_by uuid,
  leased_until timestamptz not null default '-infinity',
  lease bigint not null default 0,
  last_delivered_at timestamptz,
  last_failed_at timestamptz,
  last_status int,
  last_error text,
  dropped bigint not null default 0
) with (fillfactor = 50);
comment on table rollcall_internal.webhook_deliveries is
  'How far each webhook is. pending_until ends the batch that is being delivered: a retry has the same events.';
-- No policies: only the server uses it.
alter table rollcall_internal.webhook_deliveries enable row level security;

create table rollcall_internal.dead_letters (
  id uuid not null default gen_random_uuid() constraint dead_letters_pkey primary key,
  webhook_id uuid not null references rollcall.webhooks (id) on delete cascade,
  event_id bigint not null,
  type text not null,
  user_id uuid,
  topic text,
  data jsonb not null,
  occurred_at timestamptz not null,
  attempts int not null,
  last_status int,
  last_error text not null,
  failed_at timestamptz not null default clock_timestamp(),
  resend_at timestamptz
);
comment on table rollcall_internal.dead_letters is
  'Events that a webhook did not accept in all attempts. At most 10,000 of a webhook, for 30 days.';
create index dead_letters_order on rollcall_internal.dead_letters (webhook_id, event_id);
create index dead_letters_failed_at on rollcall_internal.dead_letters (failed_at);
create index dead_letters_resend on rollcall_internal.dead_letters (webhook_id, event_id) where resend_at is not null;
create index dead_letters_user_id on rollcall_internal.dead_letters (user_id) where user_id is not null;
alter table rollcall_internal.dead_letters enable row level security;
create policy "service_role has full access" on rollcall_internal.dead_letters
  for all to service_role using (true) with check (true);
revoke all on rollcall_internal.dead_letters from anon, authenticated, service_role;
grant select, delete on rollcall_internal.dead_letters to service_role;

-- Invoker: the policies on rollcall_internal.dead_letters decide.
create view rollcall.webhook_dead_letters with (security_invoker = true) as
  select l.id, l.webhook_id, l.event_id, l.type, l.user_id, l.topic, l.data, l.occurred_at, l.attempts, l.last_status,
    l.last_error, l.failed_at, l.resend_at
  from rollcall_internal.dead_letters l;
comment on view rollcall.webhook_dead_letters is
  'Events that a webhook did not accept. resend_dead_letters sends them again; delete removes them.';
revoke all on rollcall.webhook_dead_letters from anon, authenticated, service_role;
grant select, delete on rollcall.webhook_dead_letters to service_role;

-- Invoker, without settings, so that it is inlined. A topic that ends with * stands for all that begin so.
create function rollcall_internal.passes_filter(p_filter jsonb, p_user uuid, p_topic text) returns boolean
  language sql immutable security invoker
as $$
  select p_filter = '{}'
    or (p_user is null or not p_filter ? 'user_ids' or p_filter -> 'user_ids' ? p_user::pg_catalog.text)
      and (p_topic is null or not p_filter ? 'topics' or p_filter -> 'topics' ? p_topic or exists (
        select from pg_catalog.jsonb_array_elements_text(p_filter -> 'topics') t (pattern)
        where t.pattern like '%*'
          and pg_catalog.starts_with(p_topic, pg_catalog.left(t.pattern, -1))))
$$;
comment on function rollcall_internal.passes_filter is 'Whether an event passes the filter of a webhook.';

-- Definer: reads tables of the server; for service_role only.
create function rollcall.webhook_status() returns table (
  webhook_id uuid, pending bigint, lag_seconds double precision, attempts int, next_attempt_at timestamptz,
  last_delivered_at timestamptz, last_failed_at timestamptz, last_status int, last_error text, dead_letters bigint,
  dropped bigint
)
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select d.webhook_id, coalesce(p.pending, 0), coalesce(extract(epoch from clock_timestamp() - p.oldest), 0),
    d.attempts, nullif(d.next_attempt_at, '-infinity'), d.last_delivered_at, d.last_failed_at, d.last_status,
    d.last_error, (select count(*) from rollcall_internal.dead_letters l where l.webhook_id = d.webhook_id), d.dropped
  from rollcall_internal.webhook_deliveries d
  join rollcall.webhooks w on w.id = d.webhook_id
  left join lateral (
    select count(*) as pending, min(e.occurred_at) as oldest
    from (
      select e.occurred_at from rollcall_internal.events e
      where e.id > d.position and e.type = any (w.events)
        and rollcall_internal.passes_filter(w.filter, e.user_id, e.topic)
      order by e.id limit 10000
    ) e
  ) p on w.enabled
$$;
comment on function rollcall.webhook_status is
  'How far each webhook is: pending events (counted up to 10,000), seconds since the oldest of them, the last error, '
  'dead letters, and events that were dropped because the bounds of event_settings were reached.';
grant execute on function rollcall.webhook_status to service_role;

-- Definer: service_role may not update dead letters.
create function rollcall.resend_dead_letters(p_webhook uuid, p_ids uuid[] default null) returns bigint
  language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  with resent as (
    update rollcall_internal.dead_letters l set resend_at = clock_timestamp()
    where l.webhook_id = p_webhook and (p_ids is null or l.id = any (p_ids)) and l.resend_at is null
    returning 1
  )
  select count(*) from resent
$$;
comment on function rollcall.resend_dead_letters is
  'Sends all or some dead letters of a webhook once more; returns how many. One that fails again stays a dead letter.';
grant execute on function rollcall.resend_dead_letters to service_role;

-- What is recorded ----------------------------------------------------------------------------------------------------

-- Definer: settings belong to the server; called by triggers of tables that service_role writes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.refresh_event_settings() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_presence boolean;
  v_channels boolean;
  v_before record;
begin
  -- Concurrent changes follow each other, and the last one sees all.
  select s.records_channels, s.records_presence into v_before from rollcall.event_settings s for update;
  select
    s.record_always or exists (select from rollcall.webhooks w where w.enabled and exists (
      select from pg_catalog.unnest(w.events) e where e like 'user.%')),
    s.record_always or exists (select from rollcall.webhooks w where w.enabled and exists (
      select from pg_catalog.unnest(w.events) e where e not like 'user.%'))
  into v_presence, v_channels from rollcall.event_settings s;
  if (v_presence, v_channels) is distinct from (v_before.records_presence, v_before.records_channels) then
    update rollcall.event_settings s set records_presence = v_presence, records_channels = v_channels;
    if v_channels is distinct from v_before.records_channels then
      perform rollcall_internal.forget_channel_members(v_channels);
    end if;
  end if;
  return null;
end
$$;
comment on function rollcall_internal.refresh_event_settings is
  'Trigger function: events are recorded while a webhook or record_always asks for them.';

-- Definer: appends to a table that no API role may write.
create function rollcall_internal.on_webhook_written() returns trigger
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into rollcall_internal.webhook_deliveries (webhook_id, position)
      select new.id, coalesce(max(e.id), 0) from rollcall_internal.events e;
  else
    -- A changed URL or a webhook that is enabled again is tried at once.
    update rollcall_internal.webhook_deliveries d set attempts = 0, next_attempt_at = '-infinity'
      where d.webhook_id = new.id and (old.url, old.enabled) is distinct from (new.url, new.enabled);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_webhook_written is
  'Trigger function: a new webhook starts behind the newest event.';

-- Invoker: changes the new row only.
create function rollcall_internal.before_webhook_update() returns trigger
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function rollcall_internal.before_webhook_update is 'Trigger function: sets updated_at.';

create trigger before_update before update on rollcall.webhooks
  for each row execute function rollcall_internal.before_webhook_update();
create trigger on_written after insert or update on rollcall.webhooks
  for each row execute function rollcall_internal.on_webhook_written();
create trigger refresh_after_change after insert or update or delete on rollcall.webhooks
  for each statement execute function rollcall_internal.refresh_event_settings();
create trigger refresh_after_truncate after truncate on rollcall.webhooks
  for each statement execute function rollcall_internal.refresh_event_settings();
create trigger refresh_after_update after update of record_always on rollcall.event_settings
  for each statement execute function rollcall_internal.refresh_event_settings();

-- Publishing ----------------------------------------------------------------------------------------------------------

-- One transaction at a time, so that the ids of events follow the commits. Others find the lock taken and leave the
-- work to its holder.
-- Definer: moves rows that no API role may write.
create function rollcall_internal.publish_events(p_all_channels boolean default false, p_limit int default 5000)
  returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall.publish_events', 0)) then
    return 0;
  end if;
  with taken as (
    delete from rollcall_internal.event_queue q
    where q.id in (select t.id from rollcall_internal.event_queue t order by t.id limit p_limit for update skip locked)
    returning q.*
  )
  insert into rollcall_internal.events (type, user_id, data, occurred_at, bytes_until)
  select t.type, t.user_id, t.data, t.occurred_at,
    rollcall_internal.event_bytes() + sum(octet_length(t.data::text) + 64) over (order by t.id)
  from taken t
  order by t.id;
  get diagnostics v_count = row_count;
  v_count := v_count + rollcall_internal.publish_channel_events(p_all_channels);
  perform rollcall_internal.trim_events(p_limit);
  return v_count;
end
$$;
comment on function rollcall_internal.publish_events is
  'Moves recorded events to the readers and the webhooks; returns how many, or 0 while another session does so.';

-- Definer: reads a table of the server.
create function rollcall_internal.event_bytes() returns bigint
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select e.bytes_until from rollcall_internal.events e order by e.id desc limit 1), 0)
$$;
comment on function rollcall_internal.event_bytes is 'Bytes of all events until now.';

-- Definer: deletes rows that no API role may write; called by publish_events under its lock.
create function rollcall_internal.trim_events(p_limit int) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_last bigint;
begin
  -- Each by an index: this runs every time that events are published.
  select greatest(
      (select max(e.id) from rollcall_internal.events e) - s.max_events,
      (select e.id from rollcall_internal.events e
        where e.bytes_until <= rollcall_internal.event_bytes() - s.max_bytes order by e.bytes_until desc limit 1),
      (select e.id from rollcall_internal.events e
        where e.occurred_at < now() - s.max_age order by e.occurred_at desc limit 1))
    into v_last from rollcall.event_settings s;
  with gone as (
    delete from rollcall_internal.events e
    where e.id in (
      select o.id from rollcall_internal.events o where o.id <= v_last order by o.id limit p_limit)
    returning e.id, e.type, e.user_id, e.topic
  )
  update rollcall_internal.webhook_deliveries d set dropped = d.dropped + m.missed
  from (
    select w.id, count(*) as missed
    from rollcall.webhooks w
    join rollcall_internal.webhook_deliveries p on p.webhook_id = w.id
    join gone g on g.id > p.position and g.type = any (w.events)
      and rollcall_internal.passes_filter(w.filter, g.user_id, g.topic)
    where w.enabled
    group by w.id
  ) m
  where d.webhook_id = m.id;
  delete from rollcall_internal.dead_letters l where l.failed_at < now() - interval '30 days';
end
$$;
comment on function rollcall_internal.trim_events is
  'Deletes events beyond the bounds of event_settings, and counts what webhooks missed by that.';

-- Volatile: publishes first, so that it works without a server.
-- Definer: reads events and publishes; for service_role only.
create function rollcall.events_after(p_cursor bigint default 0, p_limit int default 100) returns setof rollcall.events
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall_internal.publish_events();
  return query
    select e.cursor, e.type, e.occurred_at, e.user_id, e.topic, e.data from rollcall.events e
    where e.cursor > p_cursor order by e.cursor limit greatest(least(p_limit, 1000), 0);
end
$$;
comment on function rollcall.events_after is
  'Events behind a cursor in order, at most 1,000. Pass the cursor of the last one to continue. Each event is read '
  'once; those deleted by the bounds of event_settings are not.';
grant execute on function rollcall.events_after to service_role;

-- Delivering ----------------------------------------------------------------------------------------------------------

-- Claims webhooks with something to deliver, at most p_limit, for p_lease. A batch has at most 100 events and 256 KiB.
-- Dead letters that are sent again come first. `lease` must be given back to finish_webhook.
-- Definer: for the server only.
-- Over 60 lines: one loop over state that is locked once.
create function rollcall_internal.claim_webhooks(p_node uuid, p_lease interval, p_limit int) returns table (
  webhook_id uuid, url text, secrets text[], message_id text, events text, event_count bigint, attempt int, lease bigint
)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v record;
  v_batch record;
  v_scanned bigint;
  v_claimed int := 0;
begin
  for v in
    select w.id, w.url, w.secret, w.previous_secret, w.events, w.filter, d.position, d.pending_until, d.attempts
    from rollcall_internal.webhook_deliveries d
    join rollcall.webhooks w on w.id = d.webhook_id
    where w.enabled and d.next_attempt_at <= clock_timestamp()
      and (d.leased_until < clock_timestamp()
        or d.leased_by <> p_node and not rollcall.any_node_lives(array[d.leased_by]))
    order by d.next_attempt_at, w.id
    for update of d skip locked
  loop
    exit when v_claimed >= p_limit;
    select coalesce(array_agg(l.id order by l.event_id), '{}') as resending, max(l.event_id) as last, count(*) as count,
      jsonb_agg(rollcall_internal.event_json(l.event_id, l.type, l.occurred_at, l.data) order by l.event_id)::text
        as events
    into v_batch
    from (
      select l.* from rollcall_internal.dead_letters l
      where l.webhook_id = v.id and l.resend_at is not null order by l.event_id limit 100
    ) l;
    if v_batch.count = 0 then
      -- A filter that few events pass must not make every call read the whole log.
      select coalesce(max(e.id), v.position) into v_scanned from (
        select e.id from rollcall_internal.events e
        where e.id > v.position and e.id <= coalesce(v.pending_until, e.id) order by e.id limit 2000
      ) e;
      select '{}'::uuid[] as resending, max(e.id) as last, count(*) as count,
        jsonb_agg(rollcall_internal.event_json(e.id, e.type, e.occurred_at, e.data) order by e.id)::text as events
      into v_batch
      from (
        select e.*, sum(octet_length(e.data::text) + 160) over (order by e.id) as bytes
        from rollcall_internal.events e
        where e.id > v.position and e.id <= v_scanned and e.type = any (v.events)
          and rollcall_internal.passes_filter(v.filter, e.user_id, e.topic)
        order by e.id limit 100
      ) e
      where e.bytes <= 262144 or e.bytes = octet_length(e.data::text) + 160;
      if v_batch.count = 0 then
        if v_scanned > v.position or v.pending_until is not null then
          update rollcall_internal.webhook_deliveries d
            set position = greatest(v_scanned, v.pending_until), pending_until = null
            where d.webhook_id = v.id;
        end if;
        continue;
      end if;
    end if;
    v_claimed := v_claimed + 1;
    update rollcall_internal.webhook_deliveries d set
        leased_by = p_node, leased_until = clock_timestamp() + p_lease, lease = d.lease + 1,
        resending = nullif(v_batch.resending, '{}'),
        pending_until = case when v_batch.resending = '{}' then v_batch.last else d.pending_until end
      where d.webhook_id = v.id
      returning d.lease into lease;
    webhook_id := v.id;
    url := v.url;
    secrets := array_remove(array[v.secret, v.previous_secret], null);
    message_id := concat_ws('_', 'msg', replace(v.id::text, '-', ''),
      case when v_batch.resending <> '{}' then 'again' end, v_batch.last);
    events := v_batch.events;
    event_count := v_batch.count;
    attempt := v.attempts + 1;
    return next;
  end loop;
end
$$;
comment on function rollcall_internal.claim_webhooks is
  'Batches to deliver, each leased to this node. A lease of a node that is gone is free.';

-- Invoker: computes from its arguments.
create function rollcall_internal.event_json(p_id bigint, p_type text, p_at timestamptz, p_data jsonb) returns jsonb
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_id::text, 'type', p_type, 'timestamp',
    to_char(p_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'data', p_data)
$$;
comment on function rollcall_internal.event_json is 'An event as webhooks receive it.';

-- p_outcome is delivered, failed or gone. A batch that failed p_max_attempts times becomes dead letters, and the next
-- one follows. False: the lease was lost, and nothing has changed.
-- Definer: for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.finish_webhook(
  p_webhook uuid, p_lease bigint, p_outcome text, p_status int, p_error text, p_delay interval, p_max_attempts int
) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v rollcall_internal.webhook_deliveries;
  v_dead boolean;
begin
  select * into v from rollcall_internal.webhook_deliveries d
    where d.webhook_id = p_webhook and d.lease = p_lease and d.leased_until > '-infinity' for update;
  if not found then
    return false;
  end if;
  v_dead := p_outcome = 'failed' and v.resending is null and v.attempts + 1 >= p_max_attempts;
  if v_dead then
    insert into rollcall_internal.dead_letters
      (webhook_id, event_id, type, user_id, topic, data, occurred_at, attempts, last_status, last_error)
    select w.id, e.id, e.type, e.user_id, e.topic, e.data, e.occurred_at, v.attempts + 1, p_status, p_error
    from rollcall.webhooks w
    join rollcall_internal.events e on e.id > v.position and e.id <= v.pending_until and e.type = any (w.events)
      and rollcall_internal.passes_filter(w.filter, e.user_id, e.topic)
    where w.id = p_webhook
    order by e.id;
    delete from rollcall_internal.dead_letters l where l.id in (
      select o.id from rollcall_internal.dead_letters o where o.webhook_id = p_webhook
      order by o.event_id desc offset 10000);
  elsif v.resending is not null and p_outcome = 'delivered' then
    delete from rollcall_internal.dead_letters l where l.id = any (v.resending);
  elsif v.resending is not null then
    update rollcall_internal.dead_letters l set resend_at = null, attempts = l.attempts + 1, last_status = p_status,
      last_error = p_error, failed_at = pg_catalog.clock_timestamp() where l.id = any (v.resending);
  end if;
  update rollcall_internal.webhook_deliveries d set
      position = case when v.resending is null and (v_dead or p_outcome = 'delivered') then v.pending_until
        else d.position end,
      pending_until = case when v.resending is null and (v_dead or p_outcome = 'delivered') then null
        else d.pending_until end,
      attempts = case when v.resending is not null then d.attempts when v_dead or p_outcome <> 'failed' then 0
        else d.attempts + 1 end,
      next_attempt_at = case when p_outcome = 'delivered' then '-infinity'
        else pg_catalog.clock_timestamp() + p_delay end,
      resending = null, leased_by = null, leased_until = '-infinity', last_status = p_status,
      last_delivered_at = case when p_outcome = 'delivered' then pg_catalog.clock_timestamp()
        else d.last_delivered_at end,
      last_failed_at = case when p_outcome = 'delivered' then d.last_failed_at else pg_catalog.clock_timestamp() end,
      last_error = p_error
    where d.webhook_id = p_webhook;
  if p_outcome = 'gone' then
    update rollcall.webhooks w set enabled = false where w.id = p_webhook;
  end if;
  return true;
end
$$;
comment on function rollcall_internal.finish_webhook is
  'Records the outcome of a delivery: continues, retries later, or makes dead letters.';

-- schemas/07_operator.sql --------------------------------------------------------------------------------------------

-- What operators do: the audit log, requests between nodes, and closing one connection.

create table rollcall_internal.operator_audit (
  id bigint generated always as identity constraint operator_audit_pkey primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  role text not null,
  login text not null,
  action text not null constraint operator_audit_action_is_known
    check (action in ('disconnect_user', 'disconnect_device', 'disconnect_connection', 'publish', 'watch_connection')),
  user_id uuid,
  target jsonb not null,
  reason text,
  request_id text
);
comment on table rollcall_internal.operator_audit is 'The rows of rollcall.operator_audit.';
comment on column rollcall_internal.operator_audit.actor is
  'sub of the token; without one its role, and in psql the login.';
comment on column rollcall_internal.operator_audit.role is 'role of the token, or the login.';
comment on column rollcall_internal.operator_audit.login is 'Login of the database session.';
comment on column rollcall_internal.operator_audit.user_id is
  'The user whom the action concerns, if it concerns one.';
comment on column rollcall_internal.operator_audit.target is
  'What the action was applied to. Never a payload or a token.';
comment on column rollcall_internal.operator_audit.request_id is
  'x-request-id of the HTTP request.';
create index operator_audit_user_id_idx on rollcall_internal.operator_audit (user_id) where user_id is not null;
-- Rows are written by record_action and deleted by the retention only.
alter table rollcall_internal.operator_audit enable row level security;
create policy "service_role reads" on rollcall_internal.operator_audit for select to service_role using (true);
revoke all on rollcall_internal.operator_audit from anon, authenticated, service_role;
grant select on rollcall_internal.operator_audit to service_role;

-- Invoker: the policies on rollcall_internal.operator_audit decide.
create view rollcall.operator_audit with (security_invoker = true) as
  select a.id, a.at, a.actor, a.role, a.login, a.action, a.user_id, a.target, a.reason, a.request_id
  from rollcall_internal.operator_audit a;
comment on view rollcall.operator_audit is
  'Actions of operators, one row for each attempt, written in the transaction of the action. No role of the API may '
  'change or delete rows; rollcall.retention says how long they are kept.';
revoke all on rollcall.operator_audit from anon, authenticated, service_role;
grant select on rollcall.operator_audit to service_role;

-- Called by functions for operators, in their transaction.
-- Definer: appends to a table that no role of the API may write.
create function rollcall_internal.record_action(p_action text, p_user uuid, p_target jsonb, p_reason text)
  returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_claims constant jsonb := rollcall_internal.jsonb_or_null(current_setting('request.jwt.claims', true));
  v_headers constant jsonb := rollcall_internal.jsonb_or_null(current_setting('request.headers', true));
  v_role constant text := coalesce(v_claims ->> 'role', session_user);
  v_id bigint;
begin
  insert into rollcall_internal.operator_audit (actor, role, login, action, user_id, target, reason, request_id)
  values (coalesce(v_claims ->> 'sub', v_role), v_role, session_user, p_action, p_user, p_target, p_reason,
    left(coalesce(nullif(current_setting('rollcall.request_id', true), ''), v_headers ->> 'x-request-id'), 64))
  returning id into v_id;
  return v_id;
end
$$;
comment on function rollcall_internal.record_action is 'Adds a row to the audit log; returns its ID.';

-- Called by purge_expired.
-- Definer: deletes from a table that no role of the API may write.
create function rollcall_internal.purge_operator_audit(p_before timestamptz, p_limit int) returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  delete from rollcall_internal.operator_audit a where a.id in (
    select old.id from rollcall_internal.operator_audit old where old.at < p_before order by old.id limit p_limit);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.purge_operator_audit is
  'Deletes rows of the audit log from before a time, at most p_limit; returns how many.';

-- The reason is sent in a close frame.
-- Invoker: only raises.
create function rollcall_internal.check_close_reason(p_reason text) returns void
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if octet_length(p_reason) > 123 then
    raise exception 'the reason is longer than 123 bytes' using errcode = 'string_data_right_truncation';
  end if;
end
$$;
comment on function rollcall_internal.check_close_reason is
  'Raises an error if a reason does not fit into a close frame.';

-- Requests of operators to nodes, and the answers: what a node holds is in its memory only.

-- NOTIFY carries the id, the content stays here for a minute. Unlogged: after a crash nobody waits for an answer.
create unlogged table rollcall_internal.node_messages (
  id bigint generated always as identity constraint node_messages_pkey primary key,
  request uuid not null,
  sender uuid,
  recipient uuid,
  is_answer boolean not null,
  body text not null constraint node_messages_body_is_bounded check (octet_length(body) <= 1048576),
  posted_at timestamptz not null default clock_timestamp()
);
comment on table rollcall_internal.node_messages is
  'Requests of operators to nodes, and answers. Each node reads its own once; kept for a minute. Unlogged.';
comment on column rollcall_internal.node_messages.sender is 'The node that waits for answers, or that answers.';
comment on column rollcall_internal.node_messages.recipient is 'Null for every node but the sender.';
-- No policies: only the server reads it.
alter table rollcall_internal.node_messages enable row level security;

-- Definer: writes a table that no role of the API may write.
create function rollcall_internal.post_to_nodes(p_request uuid, p_sender uuid, p_recipient uuid, p_is_answer boolean,
  p_body text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  delete from rollcall_internal.node_messages m where m.id in (
    select old.id from rollcall_internal.node_messages old
    where old.posted_at < clock_timestamp() - interval '1 minute' limit 100 for update skip locked);
  insert into rollcall_internal.node_messages (request, sender, recipient, is_answer, body)
  values (p_request, p_sender, p_recipient, p_is_answer, p_body)
  returning id into v_id;
  perform rollcall_internal.notify_directly('rollcall_nodes', v_id::text);
end
$$;
comment on function rollcall_internal.post_to_nodes is 'Sends a request or an answer to a node, or a request to all.';

-- Closes with code 4403. The server passes the node that waits for the result, and the ID of its request.
-- Definer: writes the audit log and messages to nodes; service_role only.
create function rollcall.disconnect_connection(p_connection text,
  p_reason text default 'disconnected by an administrator', p_request uuid default null, p_answer_to uuid default null)
  returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_node uuid;
begin
  perform rollcall_internal.check_close_reason(p_reason);
  if p_connection !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.[0-9]{1,10}){3}$' then
    raise exception 'p_connection is not the ID of a connection' using errcode = 'invalid_text_representation';
  end if;
  v_node := split_part(p_connection, '.', 1);
  perform rollcall_internal.record_action('disconnect_connection', null,
    jsonb_build_object('connection_id', p_connection), p_reason);
  perform rollcall_internal.post_to_nodes(coalesce(p_request, gen_random_uuid()), p_answer_to, v_node, false,
    json_build_object('disconnect', json_build_object('connection', p_connection, 'reason', p_reason))::text);
  return exists (
    select from rollcall_internal.nodes n where n.id = v_node and n.lease_expires_at > clock_timestamp());
end
$$;
comment on function rollcall.disconnect_connection is
  'Closes one connection, named by its ID in the operator API; returns whether its node lives.';
grant execute on function rollcall.disconnect_connection to service_role;

-- For actions without a function of their own that is definer.
-- Definer: appends to a table that no role of the API may write; service_role only.
create function rollcall.record_operator_action(p_action text, p_target jsonb, p_reason text default null)
  returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if p_action is null or p_action not in ('publish', 'watch_connection') then
    raise exception 'p_action must be publish or watch_connection' using errcode = 'invalid_parameter_value';
  end if;
  return rollcall_internal.record_action(p_action, null, p_target, p_reason);
end
$$;
comment on function rollcall.record_operator_action is
  'First half of publish, and of watching a connection in the operator API: adds a row to the audit log.';
grant execute on function rollcall.record_operator_action to service_role;

-- realtime.send stores the message and delivers it on every node. It reports errors as warnings only.
-- Invoker: the rights of the calling role on realtime.messages decide.
-- Without a search_path of its own: it fires triggers of users.
create function rollcall.publish(p_topic text, p_event text, p_payload jsonb, p_private boolean default true,
  p_reason text default null) returns void
  language plpgsql volatile security invoker
as $$
begin
  if pg_catalog.jsonb_typeof(p_payload) is distinct from 'object' then
    raise exception 'p_payload must be a JSON object' using errcode = 'invalid_parameter_value';
  end if;
  perform rollcall.record_operator_action('publish',
    pg_catalog.jsonb_build_object('topic', p_topic, 'event', p_event, 'private', p_private), p_reason);
  perform realtime.send(p_payload, p_event, p_topic, p_private);
end
$$;
comment on function rollcall.publish is
  'Sends a broadcast to a channel as an operator: realtime.send with a row in the audit log.';
grant execute on function rollcall.publish to service_role;

-- schemas/08_policy_sources.sql --------------------------------------------------------------------------------------

-- Which tables policies depend on, for private channels and for visibility.

-- Tables that policies name (by pg_depend), that functions with a parsed body name, whose names occur in the text of
-- any other function they call, directly or indirectly, and partitions of all these. The result may contain too many
-- tables; it lacks one only where a function builds a name at run time. Functions in the schemas p_closed are not
-- examined.
-- Definer: reads catalogs only.
-- Over 60 lines: one recursive statement.
create function rollcall_internal.policy_objects(p_tables regclass[], p_closed text[])
  returns table (classid oid, objid oid)
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with recursive
  needed (classid, objid) as (
    select d.refclassid, d.refobjid
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = any (p_tables)
      and d.refobjid <> p.polrelid
    union
    select following.refclassid, following.refobjid
    from needed n
    cross join lateral (
      select d.refclassid, d.refobjid
      from pg_catalog.pg_depend d
      where n.classid = 'pg_catalog.pg_proc'::regclass and d.classid = n.classid and d.objid = n.objid
      union
      -- A view stands for the tables that it reads.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and r.ev_class = n.objid and d.refobjid <> n.objid
      union
      -- Row-level security of a table that a policy reads counts as well.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_policy p
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = n.objid
      union
      -- A statement on a partition or child does not fire the triggers of its parent.
      select 'pg_catalog.pg_class'::regclass, i.inhrelid
      from pg_catalog.pg_inherits i
      where n.classid = 'pg_catalog.pg_class'::regclass and i.inhparent = n.objid
      union
      select named.classid, named.objid
      from pg_catalog.pg_proc f
      join (
        select 'pg_catalog.pg_class'::regclass, c.oid, c.relname, c.relnamespace, '($|[^a-z0-9_])'
        from pg_catalog.pg_class c where c.relkind in ('r', 'p', 'v', 'm')
        union all
        select 'pg_catalog.pg_proc'::regclass, g.oid, g.proname, g.pronamespace, '"?\s*\(' from pg_catalog.pg_proc g
      ) named (classid, objid, name, namespace, ending)
        on position(lower(named.name) in lower(f.prosrc)) > 0
        and f.prosrc ~* ('(^|[^a-z0-9_])' || regexp_replace(named.name, '([^a-z0-9_])', '\\\1', 'gi') || named.ending)
      join pg_catalog.pg_namespace s on s.oid = named.namespace
        and s.nspname !~ '^pg_' and s.nspname not in ('information_schema', 'rollcall_internal')
        -- Tables of Rollcall count, its functions only where they are to be examined.
        and (s.nspname <> all (p_closed) or s.nspname = 'rollcall' and named.classid = 'pg_catalog.pg_class'::regclass)
      where n.classid = 'pg_catalog.pg_proc'::regclass and f.oid = n.objid
        and f.prosqlbody is null
        and f.pronamespace not in (
          select own.oid from pg_catalog.pg_namespace own where own.nspname = 'pg_catalog'
            or own.nspname = any (p_closed))
    ) following
    where following.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
  )
  select n.classid, n.objid from needed n
$$;
comment on function rollcall_internal.policy_objects is
  'Tables, views and functions that the policies on some tables depend on.';

-- What the last analysis of the policies on some tables examined. DDL that concerns none of it needs no other analysis.
create table rollcall_internal.examined_policies (
  purpose text not null constraint examined_policies_pkey primary key,
  tables text[] not null,
  closed_schemas text[] not null,
  objects oid[] not null default '{}',
  function_text text not null default ''
);
comment on table rollcall_internal.examined_policies is 'Which objects the policies depend on, one row per purpose.';
comment on column rollcall_internal.examined_policies.tables is 'Tables with the policies.';
comment on column rollcall_internal.examined_policies.objects is
  'Tables with the policies, and tables, views and functions that they depend on.';
comment on column rollcall_internal.examined_policies.function_text is
  'Bodies of these functions in lower case; an object that is created later and has a name in them is a dependency.';
-- No policies: for the functions below.
alter table rollcall_internal.examined_policies enable row level security;
insert into rollcall_internal.examined_policies (purpose, tables, closed_schemas) values
  ('visibility', '{rollcall.user_presence,rollcall.typing_indicators}', '{rollcall,rollcall_internal,auth}'),
  ('authorization', '{realtime.messages}', '{realtime,rollcall_internal}');

-- Definer: reads catalogs and a table that no API role may read.
create function rollcall_internal.policy_sources(p_purpose text) returns setof regclass
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select distinct c.oid::regclass
  from rollcall_internal.examined_policies e
  cross join lateral rollcall_internal.policy_objects(
    array(select to_regclass(t.name) from unnest(e.tables) t (name)), e.closed_schemas) o
  join pg_catalog.pg_class c on o.classid = 'pg_catalog.pg_class'::regclass and c.oid = o.objid
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace
  where e.purpose = p_purpose
    and c.relkind in ('r', 'p')
    and s.nspname not in ('rollcall_internal', 'pg_catalog', 'information_schema')
    and (s.nspname = 'rollcall' or s.nspname <> all (e.closed_schemas))
$$;
comment on function rollcall_internal.policy_sources is 'Tables that the policies on some tables depend on.';

-- Records what ddl_concerns_policies compares with. The OID of this function shows that the database was not restored
-- or upgraded since, after which all OIDs are others.
-- Definer: writes a table that no API role may write.
create function rollcall_internal.examine_policies(p_purpose text) returns void
  language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  with examined as (
    select e.purpose, e.closed_schemas, array(
      select o.objid
      from rollcall_internal.policy_objects(
        array(select to_regclass(t.name) from unnest(e.tables) t (name)), e.closed_schemas) o
      union select to_regclass(t.name)::oid from unnest(e.tables) t (name)
      union select 'rollcall_internal.examine_policies(text)'::regprocedure::oid
      order by 1) as objects
    from rollcall_internal.examined_policies e
    where e.purpose = p_purpose
  ),
  bodies as (
    select x.purpose, x.objects, (
      select coalesce(string_agg(lower(f.prosrc), ' ' order by f.oid), '')
      from pg_catalog.pg_proc f
      join pg_catalog.pg_namespace s on s.oid = f.pronamespace
      where f.oid = any (x.objects) and f.prosqlbody is null
        and s.nspname <> 'pg_catalog' and s.nspname <> all (x.closed_schemas)) as function_text
    from examined x
  )
  update rollcall_internal.examined_policies e set objects = b.objects, function_text = b.function_text
  from bodies b
  where e.purpose = b.purpose and (e.objects, e.function_text) is distinct from (b.objects, b.function_text)
$$;
comment on function rollcall_internal.examine_policies is 'Records on which objects the policies depend.';

-- Whether the statement made, replaced or altered something that policies depend on, or that a function which they call
-- names. Only in an event trigger.
-- Definer: reads catalogs only.
create function rollcall_internal.ddl_concerns_policies(p_purpose text) returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from pg_event_trigger_ddl_commands() command
    join rollcall_internal.examined_policies e on e.purpose = p_purpose
    where command.schema_name is distinct from 'pg_temp'
      and (
        'rollcall_internal.examine_policies(text)'::regprocedure <> all (e.objects)
        or command.objid = any (e.objects)
        or case command.classid
          when 'pg_catalog.pg_policy'::regclass then exists (
            select from pg_catalog.pg_policy p where p.oid = command.objid and p.polrelid = any (e.objects))
          when 'pg_catalog.pg_class'::regclass then exists (
            select from pg_catalog.pg_class c
            where c.oid = command.objid and (
              position(lower(c.relname) in e.function_text) > 0
              -- A partition, or another child.
              or exists (
                select from pg_catalog.pg_inherits i where i.inhrelid = c.oid and i.inhparent = any (e.objects))))
          when 'pg_catalog.pg_proc'::regclass then exists (
            select from pg_catalog.pg_proc f
            where f.oid = command.objid and position(lower(f.proname) in e.function_text) > 0)
          -- A rule belongs to a view.
          when 'pg_catalog.pg_rewrite'::regclass then exists (
            select from pg_catalog.pg_rewrite r where r.oid = command.objid and r.ev_class = any (e.objects))
          else false
        end
      )
  )
$$;
comment on function rollcall_internal.ddl_concerns_policies is
  'Whether the DDL statement may change on which tables policies depend.';

-- Invoker: returns a constant.
create function rollcall_internal.tags_of_new_dependencies() returns text[]
  language sql immutable security invoker
as $$
  select array['CREATE POLICY', 'ALTER POLICY', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
    'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE RULE',
    'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE PROCEDURE', 'ALTER ROUTINE', 'CREATE SCHEMA', 'CREATE EXTENSION']
$$;
comment on function rollcall_internal.tags_of_new_dependencies is
  'Kinds of DDL after which policies may depend on another table.';

-- Columns that policies, views and functions with a parsed body name. Null stands for all: where the text of a
-- function may name the table, where an expression reads whole rows, and for partitions and other children.
-- Definer: reads catalogs only.
create function rollcall_internal.columns_in_policies(p_purpose text, p_table regclass) returns text[]
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with e as (
    select x.objects, x.function_text from rollcall_internal.examined_policies x where x.purpose = p_purpose
  ),
  reader (classid, objid, tree) as (
    select 'pg_catalog.pg_policy'::regclass, p.oid, concat(p.polqual::text, p.polwithcheck::text)
    from e join pg_catalog.pg_policy p on p.polrelid = any (e.objects)
    union all
    select 'pg_catalog.pg_rewrite'::regclass, r.oid, r.ev_action::text
    from e join pg_catalog.pg_rewrite r on r.ev_class = any (e.objects)
    union all
    select 'pg_catalog.pg_proc'::regclass, f.oid, f.prosqlbody::text
    from e join pg_catalog.pg_proc f on f.oid = any (e.objects) and f.prosqlbody is not null
  ),
  reference as (
    select d.refobjsubid, reader.tree
    from reader
    join pg_catalog.pg_depend d on d.classid = reader.classid and d.objid = reader.objid
    where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p_table
  )
  select case when not exists (
      select from e join pg_catalog.pg_class c on c.oid = p_table
      where position(lower(c.relname) in e.function_text) > 0)
    -- A variable without a column is the whole row; system columns have negative numbers.
    and not exists (select from reference r where r.refobjsubid < 0 or position(':varattno 0 ' in r.tree) > 0)
    and not exists (select from pg_catalog.pg_inherits i where p_table in (i.inhrelid, i.inhparent))
  then array(
    select distinct a.attname::text
    from reference r
    join pg_catalog.pg_attribute a on a.attrelid = p_table and a.attnum = r.refobjsubid
    where r.refobjsubid > 0)
  end
$$;
comment on function rollcall_internal.columns_in_policies is
  'Columns of a table that the policies for a purpose read; null stands for all.';

-- Triggers on followed tables -----------------------------------------------------------------------------------------

-- As in pg_trigger.tgargs: each in the encoding of the database, with a zero byte after it.
-- Invoker: computes from its argument.
create function rollcall_internal.trigger_arguments(p_arguments text[]) returns bytea
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(convert_to(a.value, getdatabaseencoding()) || '\x00'::bytea, ''::bytea order by a.place),
    ''::bytea)
  from unnest(p_arguments) with ordinality as a (value, place)
$$;
comment on function rollcall_internal.trigger_arguments is 'Arguments of a trigger as the catalog stores them.';

-- A statement that reads some columns of old_rows and of new_rows, as two arrays of text. Values are compared as text,
-- because some types have no equality. The n-th row of both is the same one, so equal arrays mean that nothing changed.
-- Invoker: computes from its argument.
create function rollcall_internal.transitions_as_text(p_columns text[]) returns text
  language plpgsql immutable security invoker
as $$
declare
  v_columns constant pg_catalog.text := (
    select pg_catalog.string_agg(pg_catalog.format('t.%I', c.name), ', ')
    from pg_catalog.unnest(p_columns) as c (name));
begin
  return pg_catalog.format('select (select pg_catalog.array_agg(row(%1$s)::pg_catalog.text) from old_rows t),
    (select pg_catalog.array_agg(row(%1$s)::pg_catalog.text) from new_rows t)', v_columns);
end
$$;
comment on function rollcall_internal.transitions_as_text is
  'Statement of a trigger that reads some columns of the rows before and after an update.';

-- Makes a table have these triggers for each statement, and no others whose name matches p_pattern. p_triggers is an
-- array of objects with name, events, function (in rollcall_internal) and arguments (text[]); null stands for none.
-- Triggers of one event have the transition tables new_rows and old_rows. Triggers that are as they are wanted stay, so
-- that most calls take no lock on the table.
-- Invoker: needs the right to create triggers on that table.
create function rollcall_internal.set_triggers(p_table regclass, p_pattern text, p_triggers jsonb) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    with wanted as (
      select w.name, w.events, w.function, w.arguments, (
          select sum(case e.event when 'insert' then 4 when 'delete' then 8 when 'update' then 16 else 32 end)
          from regexp_split_to_table(w.events, ' or ') as e (event)) as type
      from jsonb_array_elements(p_triggers) as wanted (trigger)
      cross join lateral jsonb_to_record(case jsonb_typeof(wanted.trigger) when 'object' then wanted.trigger end)
        as w (name text, events text, function text, arguments text[])
      where w.name is not null
    )
    select coalesce(w.name, t.tgname) as name, w.events, w.function,
      case w.events
        when 'insert' then 'referencing new table as new_rows'
        when 'delete' then 'referencing old table as old_rows'
        when 'update' then 'referencing old table as old_rows new table as new_rows'
        else '' end as transitions,
      array_to_string(array(
        select quote_literal(a.value) from unnest(w.arguments) with ordinality as a (value, place) order by a.place),
        ', ') as arguments
    from wanted w
    full join (
      select t.tgname, t.tgtype, t.tgargs, f.proname
      from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
      where t.tgrelid = p_table and t.tgname ~ p_pattern
    ) t on t.tgname = w.name
    where (w.type, w.function, rollcall_internal.trigger_arguments(w.arguments))
      is distinct from (t.tgtype, t.proname, t.tgargs)
    -- Those that are dropped first, because their lock is the strongest.
    order by w.name is not null
  loop
    if v_trigger.events is null then
      execute format('drop trigger %I on %s', v_trigger.name, p_table);
    else
      execute format('create or replace trigger %I after %s on %s %s for each statement
        execute function rollcall_internal.%I(%s)', v_trigger.name, v_trigger.events, p_table, v_trigger.transitions,
        v_trigger.function, v_trigger.arguments);
    end if;
  end loop;
end
$$;
comment on function rollcall_internal.set_triggers is 'Makes a table have some triggers for each statement.';

-- schemas/09_policy_rows.sql -----------------------------------------------------------------------------------------

-- Which users and topics a row concerns, found in the parsed form of policies, views and functions. After a change of a
-- table that they read only in ways understood here, Rollcall evaluates policies again only for these, otherwise for
-- all.

-- The text form of a parsed expression (pg_node_tree) as JSON. A node is an object whose member `node` holds its type;
-- its other members are its fields. A field, and a list, is an array whose first item is 0, so that the values start at
-- index 1. An atom is a string. Null if the text cannot be read.
-- Invoker: computes from its argument.
create function rollcall_internal.node_tree(p_tree text) returns jsonb
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  -- Each field has a value. A name in the tree that begins with a colon would look like a field.
  if p_tree ~ ':\S+\s+[:})]' then
    return null;
  end if;
  return (
    select '[0' || string_agg(case
        when token.text = '{' then ',{"node":[0'
        when token.text = '}' then ']}'
        when token.text = '(' then ',[0'
        when token.text = ')' then ']'
        when left(token.text, 1) = ':' then '],' || to_json(substr(token.text, 2)) || ':[0'
        else ',' || to_json(token.text) end, '' order by token.place) || ']'
    from (
      select found.match[1] as text, found.place
      from regexp_matches(p_tree, '[(){}]|(?:\\.|[^\s(){}\\])+', 'g') with ordinality as found (match, place)
    ) token
  )::jsonb -> 1;
exception when invalid_text_representation then
  return null;
end
$$;
comment on function rollcall_internal.node_tree is 'A parsed expression as JSON; null if it cannot be read.';

-- Names the value of an expression: `viewer`, `topic`, or `<level>:<table>.<column>` with the numbers of the range
-- table entry and of the column. Level 0 is the row that a policy judges, level 1 the outermost query. Null for any
-- other expression. A UUID and its text have one name.
-- Invoker: computes from its arguments.
create function rollcall_internal.expression_key(p_node jsonb, p_level int) returns text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_query constant jsonb := p_node -> 'subselect' -> 1;
begin
  case p_node -> 'node' ->> 1
    when 'VAR' then
      if (p_node -> 'varattno' ->> 1)::int > 0 then
        return format('%s:%s.%s', p_level - (p_node -> 'varlevelsup' ->> 1)::int, p_node -> 'varno' ->> 1,
          p_node -> 'varattno' ->> 1);
      end if;
    when 'FUNCEXPR' then
      if (p_node -> 'funcid' ->> 1)::oid = to_regprocedure('auth.uid()') then
        return 'viewer';
      elsif (p_node -> 'funcid' ->> 1)::oid = to_regprocedure('realtime.topic()') then
        return 'topic';
      end if;
    when 'OPEXPR' then
      -- auth.jwt() ->> 'sub'. The constant has four bytes of length before its text.
      if (p_node -> 'opno' ->> 1)::oid = '->>(jsonb,text)'::regoperator
        and (p_node -> 'args' -> 1 -> 1 -> 'funcid' ->> 1)::oid = to_regprocedure('auth.jwt()')
        and p_node -> 'args' -> 1 -> 2 -> 'constvalue' @> '["7", "115", "117", "98"]'
        and p_node -> 'args' -> 1 -> 2 -> 'constvalue' ->> 7 = '115'
      then
        return 'viewer';
      end if;
    when 'RELABELTYPE' then
      return rollcall_internal.expression_key(p_node -> 'arg' -> 1, p_level);
    -- A cast. That of a column to UUID is left out, because it can raise for a row that concerns nobody.
    when 'COERCEVIAIO' then
      if p_node -> 'resulttype' ->> 1 in ('25', '2950') and (
        p_node -> 'arg' -> 1 -> 'node' ->> 1 not in ('VAR', 'RELABELTYPE')
        or p_node -> 'arg' -> 1 -> 'vartype' ->> 1 = '2950')
      then
        return rollcall_internal.expression_key(p_node -> 'arg' -> 1, p_level);
      end if;
    -- A subquery without tables, such as (select auth.uid()).
    when 'SUBLINK' then
      if p_node -> 'subLinkType' ->> 1 = '4' and v_query -> 'rtable' ->> 1 = '<>'
        and v_query -> 'jointree' -> 1 -> 'quals' ->> 1 = '<>'
      then
        return rollcall_internal.expression_key(v_query -> 'targetList' -> 1 -> 1 -> 'expr' -> 1, p_level + 1);
      end if;
    else
  end case;
  return null;
end
$$;
comment on function rollcall_internal.expression_key is 'Names the value of a parsed expression, for comparisons.';

-- Whether an operator node compares UUIDs, integers, or texts byte by byte.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.is_equality(p_node jsonb) returns boolean
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select (p_node -> 'opno' ->> 1)::oid in (
      select o.oid from pg_catalog.pg_operator o
      where o.oprname = '=' and o.oprnamespace = 'pg_catalog'::regnamespace and (
        o.oprleft = o.oprright and o.oprleft in ('uuid'::regtype, 'text'::regtype)
        or o.oprleft in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
          and o.oprright in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)))
    and not exists (
      select from pg_catalog.pg_collation c
      where c.oid = (p_node -> 'inputcollid' ->> 1)::oid and not c.collisdeterministic)
$$;
comment on function rollcall_internal.is_equality is
  'Whether a parsed operator is the equality of UUIDs, integers or texts.';

-- Equalities that hold wherever a condition does: of UUIDs, integers or texts, in the condition or joined to it by AND.
-- Each is two keys with a space between them.
-- Invoker: computes from its arguments.
create function rollcall_internal.equalities(p_condition jsonb, p_level int) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_left text;
  v_right text;
begin
  if p_condition -> 'node' ->> 1 = 'BOOLEXPR' and p_condition -> 'boolop' ->> 1 = 'and' then
    return array(
      select equality
      from jsonb_array_elements(p_condition -> 'args' -> 1) as arg (node)
      cross join lateral unnest(rollcall_internal.equalities(arg.node, p_level)) as equality);
  end if;
  if p_condition -> 'node' ->> 1 = 'OPEXPR' and rollcall_internal.is_equality(p_condition) then
    v_left := rollcall_internal.expression_key(p_condition -> 'args' -> 1 -> 1, p_level);
    v_right := rollcall_internal.expression_key(p_condition -> 'args' -> 1 -> 2, p_level);
    if v_left is not null and v_right is not null then
      return array[v_left || ' ' || v_right];
    end if;
  end if;
  return '{}';
end
$$;
comment on function rollcall_internal.equalities is 'Equalities that hold wherever a parsed condition does.';

-- The same for the joins of a query. Rows on the optional side of an outer join are rows without the condition.
-- Invoker: computes from its arguments.
create function rollcall_internal.join_equalities(p_join jsonb, p_level int) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := p_join -> 'jointype' ->> 1;
begin
  if p_join -> 'node' ->> 1 is distinct from 'JOINEXPR' then
    return '{}';
  end if;
  -- 0 inner, 1 left, 3 right.
  return case when v_type = '0' then rollcall_internal.equalities(p_join -> 'quals' -> 1, p_level) else '{}' end
    || case when v_type in ('0', '1') then rollcall_internal.join_equalities(p_join -> 'larg' -> 1, p_level)
      else '{}' end
    || case when v_type in ('0', '3') then rollcall_internal.join_equalities(p_join -> 'rarg' -> 1, p_level)
      else '{}' end;
end
$$;
comment on function rollcall_internal.join_equalities is 'Equalities that hold in all rows of a parsed join.';

-- Invoker: computes from its argument.
create function rollcall_internal.combines_rows(p_query jsonb) returns boolean
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select 'true' in (p_query -> 'hasAggs' ->> 1, p_query -> 'hasWindowFuncs' ->> 1, p_query -> 'hasTargetSRFs' ->> 1,
      p_query -> 'hasDistinctOn' ->> 1)
    or exists (
      select
      from unnest(array['groupClause', 'groupingSets', 'havingQual', 'limitOffset', 'limitCount', 'setOperations'])
        as field (name)
      where p_query -> field.name ->> 1 is distinct from '<>')
$$;
comment on function rollcall_internal.combines_rows is
  'Whether the result of a parsed query may have rows or values that its conditions do not hold for.';

-- The equality that `value in (subquery)` adds to the conditions of the subquery. Only where the expression is a
-- condition: there it does not matter whether it is null or false. Nothing if the subquery combines rows, because then
-- a row counts without being equal.
-- Invoker: computes from its arguments.
create function rollcall_internal.membership(p_operator jsonb, p_query jsonb, p_level int) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_value constant text := rollcall_internal.expression_key(p_operator -> 'args' -> 1 -> 1, p_level);
  v_member constant text := rollcall_internal.expression_key(
    p_query -> 'targetList' -> 1 -> 1 -> 'expr' -> 1, p_level + 1);
begin
  if v_value is null or v_member is null or not rollcall_internal.is_equality(p_operator)
    or rollcall_internal.combines_rows(p_query)
  then
    return '{}';
  end if;
  return array[v_value || ' ' || v_member];
end
$$;
comment on function rollcall_internal.membership is 'The equality that membership in a parsed subquery adds to it.';

-- Invoker: computes from its arguments.
create function rollcall_internal.equal_keys(p_key text, p_equalities text[]) returns text[]
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  with recursive
  pair as (
    select split_part(e.equality, ' ', 1) as one, split_part(e.equality, ' ', 2) as other
    from unnest(p_equalities) e (equality)
  ),
  reached (key) as (
    select p_key
    union
    select case when p.one = r.key then p.other else p.one end
    from reached r join pair p on r.key in (p.one, p.other)
  )
  select array_agg(r.key) from reached r
$$;
comment on function rollcall_internal.equal_keys is 'All keys that are equal to one, directly or indirectly.';

-- Invoker: computes from its arguments.
create function rollcall_internal.column_equal_to(p_key text, p_place text, p_equalities text[]) returns int
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select min(split_part(k.key, '.', 2)::int)
  from unnest(rollcall_internal.equal_keys(p_key, p_equalities)) k (key)
  where split_part(k.key, '.', 1) = p_place
$$;
comment on function rollcall_internal.column_equal_to is
  'The number of the first column of a table of a query that is equal to a key.';

-- Invoker: computes from its arguments.
create function rollcall_internal.query_equalities(p_query jsonb, p_level int) returns text[]
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.equalities(p_query -> 'jointree' -> 1 -> 'quals' -> 1, p_level) || array(
    select equality
    from jsonb_path_query(p_query, '$.jointree[1].fromlist[1][*]') as item (node)
    cross join lateral unnest(rollcall_internal.join_equalities(item.node, p_level)) as equality)
$$;
comment on function rollcall_internal.query_equalities is 'Equalities that hold in all rows of a parsed query.';

-- Invoker: computes from its arguments.
create function rollcall_internal.query_tables(p_query jsonb, p_level int) returns text[]
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(format('%s:%s %s', p_level, entry.place - 1, entry.node -> 'relid' ->> 1)), '{}')
  from jsonb_path_query(p_query, '$.rtable[1][*]') with ordinality as entry (node, place)
  where entry.node -> 'rtekind' ->> 1 = '0'
$$;
comment on function rollcall_internal.query_tables is
  'The tables of a parsed query: `<level>:<table>` as in expression_key, and the OID.';

-- The queries of `exists` and `in` that a condition is joined to by AND: where it holds, so do theirs for some row.
-- Invoker: computes from its arguments.
create function rollcall_internal.required_queries(p_condition jsonb, p_level int)
  returns table (tables text[], equalities text[])
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.query_tables(c.node -> 'subselect' -> 1, p_level + 1),
    rollcall_internal.query_equalities(c.node -> 'subselect' -> 1, p_level + 1)
      || case when c.node -> 'subLinkType' ->> 1 = '2' then rollcall_internal.membership(
        c.node -> 'testexpr' -> 1, c.node -> 'subselect' -> 1, p_level) else '{}' end
  from (
    select p_condition
    union all
    select jsonb_path_query(p_condition, '$ ? (@.node[1] == "BOOLEXPR" && @.boolop[1] == "and").args[1][*]')
  ) as c (node)
  where c.node -> 'node' ->> 1 = 'SUBLINK' and c.node -> 'subLinkType' ->> 1 in ('0', '2')
    and not rollcall_internal.combines_rows(c.node -> 'subselect' -> 1)
$$;
comment on function rollcall_internal.required_queries is
  'Tables and equalities of the subqueries that have a row wherever a parsed condition holds.';

-- How another table of a query names the users whom a row concerns, as `[column, null, join]` of concerned_columns. By
-- name, because it is stored in the arguments of triggers, which dumps contain. The other table is a followed one: a
-- row that named other users before was a change of its own. Null without such a table, or without an index of it for
-- the look-up.
-- Definer: reads catalogs only.
create function rollcall_internal.naming_join(p_place text, p_tables text[], p_equalities text[], p_subject text)
  returns jsonb
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with
  place as (
    select split_part(t.entry, ' ', 1) as name, split_part(t.entry, ' ', 2)::oid as source
    from unnest(p_tables) as t (entry)
  ),
  own as (
    select distinct side.key
    from unnest(p_equalities) as e (equality)
    cross join lateral unnest(string_to_array(e.equality, ' ')) as side (key)
    where split_part(side.key, '.', 1) = p_place
  )
  select jsonb_build_array(key_of.attname, null, jsonb_build_array(
    format('%I.%I', n.nspname, c.relname), key.attname, viewer.attname, subject.attname)::text)
  from own o
  cross join lateral unnest(rollcall_internal.equal_keys(o.key, p_equalities)) as same (key)
  join place mine on mine.name = p_place
  join place other on other.name = split_part(same.key, '.', 1) and other.name <> p_place
  join pg_catalog.pg_class c on c.oid = other.source and c.relkind in ('r', 'p')
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    and n.nspname not in ('rollcall', 'rollcall_internal', 'realtime')
  left join pg_catalog.pg_attribute viewer on viewer.attrelid = other.source
    and viewer.attnum = rollcall_internal.column_equal_to('viewer', other.name, p_equalities)
  left join pg_catalog.pg_attribute subject on subject.attrelid = other.source
    and subject.attnum = rollcall_internal.column_equal_to(p_subject, other.name, p_equalities)
  join pg_catalog.pg_attribute key on key.attrelid = other.source
    and key.attnum = split_part(same.key, '.', 2)::int
  join pg_catalog.pg_attribute key_of on key_of.attrelid = mine.source
    and key_of.attnum = split_part(o.key, '.', 2)::int
  where (viewer.attnum is not null or subject.attnum is not null)
    and (key.atttypid = key_of.atttypid and key.atttypid in ('uuid'::regtype, 'text'::regtype)
      or key.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
        and key_of.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype))
    and exists (
      select from pg_catalog.pg_index i
      where i.indrelid = other.source and i.indkey[0] = key.attnum and i.indisvalid and i.indpred is null)
    and has_table_privilege(other.source, 'select') and not row_security_active(other.source)
    and not exists (select from pg_catalog.pg_inherits i where i.inhparent = other.source and c.relkind = 'r')
  order by viewer.attnum is null, subject.attnum is null, key_of.attnum, other.source, key.attnum
  limit 1
$$;
comment on function rollcall_internal.naming_join is
  'The columns of another table of a parsed query that name the users whom a row concerns.';

-- The tables that a parsed expression reads, one row per mention, with the column that equals the viewer and the one
-- that equals p_subject (null where no condition says so). A row of the table with another value in that column cannot
-- change the result of the expression for this viewer or subject. Without both columns, naming_join as `via`.
--   p_tables      the tables of the queries around the node
--   p_equalities  what holds wherever the node is evaluated to an effect
--   p_is_condition  whether the node decides alone, so that null and false have the same effect
-- Invoker: computes from its arguments.
-- Over 60 lines: one case per kind of node.
create function rollcall_internal.tables_read(
  p_node jsonb, p_level int, p_tables text[], p_equalities text[], p_is_condition boolean, p_subject text
) returns table (source oid, viewer_column int, subject_column int, via jsonb)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := p_node -> 'node' ->> 1;
  v_join constant jsonb := p_node -> 'jointree' -> 1;
  v_level int := p_level;
  v_tables text[] := p_tables;
  v_equalities text[] := p_equalities;
  v_own_tables text[];
  v_table text;
  v_place text;
  -- Fields that are evaluated by the case itself.
  v_done text[] := '{}';
begin
  if v_type = 'QUERY' then
    v_level := p_level + 1;
    v_own_tables := rollcall_internal.query_tables(p_node, v_level);
    v_tables := v_tables || v_own_tables;
    v_equalities := v_equalities || rollcall_internal.query_equalities(p_node, v_level);
    foreach v_table in array v_own_tables loop
      v_place := split_part(v_table, ' ', 1);
      source := split_part(v_table, ' ', 2);
      viewer_column := rollcall_internal.column_equal_to('viewer', v_place, v_equalities);
      subject_column := rollcall_internal.column_equal_to(p_subject, v_place, v_equalities);
      via := case when viewer_column is null and subject_column is null then coalesce(
        rollcall_internal.naming_join(v_place, v_tables, v_equalities, p_subject), (
          select j.sides
          from rollcall_internal.required_queries(v_join -> 'quals' -> 1, v_level) q
          cross join lateral rollcall_internal.naming_join(
            v_place, v_tables || q.tables, v_equalities || q.equalities, p_subject) as j (sides)
          where j.sides is not null
          limit 1)) end;
      return next;
    end loop;
    v_done := array['jointree'];
    return query select * from rollcall_internal.tables_read(
      v_join -> 'quals' -> 1, v_level, v_tables, v_equalities, true, p_subject);
    return query select * from rollcall_internal.tables_read(
      v_join -> 'fromlist' -> 1, v_level, v_tables, v_equalities, false, p_subject);

  elsif p_is_condition and v_type = 'BOOLEXPR' and p_node -> 'boolop' ->> 1 in ('and', 'or') then
    v_done := array['args'];
    return query
      select inner_read.*
      from jsonb_array_elements(p_node -> 'args' -> 1) as arg (node)
      cross join lateral rollcall_internal.tables_read(arg.node, v_level, v_tables,
        v_equalities || rollcall_internal.equalities(p_node, v_level), true, p_subject) inner_read;

  -- value = any (subquery)
  elsif p_is_condition and v_type = 'SUBLINK' and p_node -> 'subLinkType' ->> 1 = '2' then
    v_done := array['subselect'];
    return query select * from rollcall_internal.tables_read(p_node -> 'subselect' -> 1, v_level,
      v_tables, v_equalities || rollcall_internal.membership(
        p_node -> 'testexpr' -> 1, p_node -> 'subselect' -> 1, v_level), false, p_subject);

  -- value = any (array(subquery))
  elsif p_is_condition and v_type = 'SCALARARRAYOPEXPR' and p_node -> 'useOr' ->> 1 = 'true'
    and p_node -> 'args' -> 1 -> 2 -> 'subLinkType' ->> 1 = '6'
  then
    v_done := array['args'];
    return query select * from rollcall_internal.tables_read(
      p_node -> 'args' -> 1 -> 1, v_level, v_tables, v_equalities, false, p_subject);
    return query select * from rollcall_internal.tables_read(p_node -> 'args' -> 1 -> 2 -> 'subselect' -> 1, v_level,
      v_tables, v_equalities || rollcall_internal.membership(
        p_node, p_node -> 'args' -> 1 -> 2 -> 'subselect' -> 1, v_level), false, p_subject);
  end if;

  return query
    select inner_read.*
    from (
      select field.value from jsonb_each(case jsonb_typeof(p_node) when 'object' then p_node else '{}' end) field
      where field.key <> all (v_done)
      union all
      select item.value from jsonb_array_elements(case jsonb_typeof(p_node) when 'array' then p_node else '[]' end) item
    ) part
    cross join lateral rollcall_internal.tables_read(
      part.value, v_level, v_tables, v_equalities, false, p_subject) inner_read
    where jsonb_typeof(part.value) in ('object', 'array');
end
$$;
comment on function rollcall_internal.tables_read is
  'Tables in a parsed expression, with the columns that name the viewer and the subject that a row concerns.';

-- Whom rows of another table name, for each value that a column of it has. p_join is a JSON array of the table and
-- its columns for the value, the viewers and the subjects; nulls in it stand for all. The snapshot is the one in which
-- the caller reads the log: a row that is gone by then was a change of its own. Nulls in the result are all users:
-- for a value of more than 1,000 rows, and for all values if there are more than 10,000 rows or the table cannot be
-- read. A lock on the table must not delay other changes.
-- Stable, so that it reads in the snapshot of the calling statement.
-- Definer: reads tables of the application; for the server only.
create function rollcall_internal.users_joined(p_join text, p_values text[])
  returns table (viewers uuid[], subjects uuid[])
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  set row_security = off set lock_timeout = '100ms'
as $$
declare
  v_join constant jsonb := p_join;
begin
  return query execute format(
    'select distinct case when %6$L and f.is_bounded then coalesce(f.viewers, ''{}'') end,
       case when %7$L and f.is_bounded then coalesce(f.subjects, ''{}'') end
     from (
       select count(*) <= 1000 and sum(count(*)) over () <= 10000 as is_bounded,
         array_agg(distinct r.viewer) filter (where r.viewer is not null) as viewers,
         array_agg(distinct r.subject) filter (where r.subject is not null) as subjects
       from (
         select m.%1$I as value, rollcall_internal.text_as_uuid(%2$s) as viewer,
           rollcall_internal.text_as_uuid(%3$s) as subject
         from %4$s m where m.%1$I = any (%5$L) limit 10001
       ) r
       group by r.value
     ) f',
    v_join ->> 1, coalesce('m.' || quote_ident(v_join ->> 2) || '::text', 'null'),
    coalesce('m.' || quote_ident(v_join ->> 3) || '::text', 'null'), v_join ->> 0, p_values,
    v_join ->> 2 is not null, v_join ->> 3 is not null);
exception when others then
  raise warning 'Rollcall cannot read whom rows of % name: %', v_join ->> 0, sqlerrm
    using hint = 'Rollcall asks all viewers. The table is locked, or it or its rights were changed.';
  return query select null::uuid[], null::uuid[];
end
$$;
comment on function rollcall_internal.users_joined is
  'Viewers and subjects that rows of another table name for each value; null stands for all.';

-- Invoker: computes from its argument.
create function rollcall_internal.widest_pairs(p_pairs jsonb) returns jsonb
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(distinct pair.sides order by pair.sides)
  from jsonb_array_elements(p_pairs) as pair (sides)
  where not exists (
    select from jsonb_array_elements(p_pairs) as wider (sides)
    where wider.sides <> pair.sides
      and jsonb_array_length(wider.sides) = 2 and jsonb_array_length(pair.sides) = 2
      and (wider.sides -> 0 = 'null' or wider.sides -> 0 = pair.sides -> 0)
      and (wider.sides -> 1 = 'null' or wider.sides -> 1 = pair.sides -> 1))
$$;
comment on function rollcall_internal.widest_pairs is
  'Each pair of columns once, without those whose rows another pair includes.';

-- Pairs of the columns of viewer and subject, as JSON, null where a row concerns all of them. The subject is a user, or
-- for the purpose `authorization` a topic. A row concerns the viewers and subjects of each pair. For visibility also
-- `[column, null, join]`: the users whom the join (see users_joined) finds for the value of the column. Null if a row
-- may concern all. p_columns is the result of columns_in_policies.
-- Definer: reads catalogs only.
create function rollcall_internal.concerned_columns(p_purpose text, p_table regclass, p_columns text[]) returns jsonb
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_examined constant rollcall_internal.examined_policies := (
    select e from rollcall_internal.examined_policies e where e.purpose = p_purpose);
  v_column constant text := case p_purpose when 'authorization' then 'topic' else 'user_id' end;
  v_subject constant text := case p_purpose when 'authorization' then 'topic' else 'subject' end;
  v_reader record;
  v_tree jsonb;
  v_pairs jsonb := '[]';
  v_new jsonb;
begin
  if p_columns is null then
    return null;
  end if;
  for v_reader in
    select expression.tree, case when p.polrelid = any (v_examined.tables::regclass[]) then array(
        select format('%s 0:1.%s', v_subject, a.attnum) from pg_catalog.pg_attribute a
        where a.attrelid = p.polrelid and a.attname = v_column) else '{}' end as equalities
    from pg_catalog.pg_policy p
    cross join lateral (values (p.polqual::text), (p.polwithcheck::text)) expression (tree)
    where p.polrelid = any (v_examined.objects)
    union all
    select r.ev_action::text, '{}'
    from pg_catalog.pg_rewrite r where r.ev_class = any (v_examined.objects)
    union all
    select f.prosqlbody::text, '{}'
    from pg_catalog.pg_proc f where f.oid = any (v_examined.objects) and f.prosqlbody is not null
  loop
    continue when v_reader.tree is null or position(format(':relid %s ', p_table::oid) in v_reader.tree) = 0;
    v_tree := rollcall_internal.node_tree(v_reader.tree);
    if v_tree is null then
      return null;
    end if;
    select jsonb_agg(distinct coalesce(case p_purpose when 'visibility' then t.via end,
        jsonb_build_array(viewer.attname, subject.attname))) into v_new
    from rollcall_internal.tables_read(v_tree, 0, '{}', v_reader.equalities, true, v_subject) t
    left join pg_catalog.pg_attribute viewer on viewer.attrelid = p_table and viewer.attnum = t.viewer_column
    left join pg_catalog.pg_attribute subject on subject.attrelid = p_table and subject.attnum = t.subject_column
    where t.source = p_table;
    v_pairs := v_pairs || coalesce(v_new, '[]');
  end loop;
  if exists (select from jsonb_array_elements(v_pairs) as pair (sides) where pair.sides = '[null, null]') then
    return null;
  end if;
  v_pairs := rollcall_internal.widest_pairs(v_pairs);
  -- More than a few pairs cost more than they save. Triggers read virtual generated columns as null.
  return case when jsonb_array_length(v_pairs) <= 4 and not rollcall_internal.has_virtual_column(p_table, array(
    select side.name from jsonb_array_elements(v_pairs) as pair (sides)
    cross join lateral (values (pair.sides ->> 0), (pair.sides ->> 1)) as side (name)))
  then v_pairs end;
end
$$;
comment on function rollcall_internal.concerned_columns is
  'Columns that name the viewers and subjects that a row concerns; null if it may concern all.';

-- schemas/50_channels.sql --------------------------------------------------------------------------------------------

-- Broadcasts from the database and between nodes: partitions and notifications of realtime.messages, and the bus. A
-- row is notified by the statement that inserts it: after the commit, in commit order, and never after a rollback.

-- From yesterday to p_ahead days from now; drops partitions without rows younger than p_keep. Any node may call it at
-- any time: without work it takes no lock, otherwise calls are serialized. Does nothing where another role owns the
-- table. Creates a table first and attaches it, because that does not wait for readers and writers.
-- Definer: the owner of Rollcall is a member of the table's owner.
-- Over 60 lines: creation and removal share checks and locks.
create function rollcall.maintain_message_partitions(p_keep interval default '72 hours', p_ahead int default 3)
  returns table (created int, dropped int)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
  set lock_timeout = '3s' set timezone = 'UTC'
as $$
declare
  v_parent constant regclass := to_regclass('realtime.messages');
  v_now constant timestamp := clock_timestamp() at time zone 'utc';
  v_owner name;
  v_day date;
  v_name text;
  v_old record;
begin
  created := 0; dropped := 0;
  select r.rolname into v_owner from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
    where c.oid = v_parent and c.relkind = 'p' and pg_has_role(r.oid, 'member')
      and has_schema_privilege('realtime', 'create');
  if v_owner is null then
    return next;
    return;
  end if;

  for v_day in
    select day::date from generate_series(v_now::date - 1, v_now::date + p_ahead, interval '1 day') day
  loop
    v_name := 'messages_' || to_char(v_day, 'YYYY_MM_DD');
    continue when exists (
      select from pg_catalog.pg_inherits i where i.inhparent = v_parent
        and i.inhrelid = to_regclass('realtime.' || v_name));
    perform pg_advisory_xact_lock(hashtextextended('rollcall.message_partitions', 0));
    -- Another node may have created it.
    continue when exists (
      select from pg_catalog.pg_inherits i where i.inhparent = v_parent
        and i.inhrelid = to_regclass('realtime.' || v_name));
    begin
      -- A detached partition is attached again: senders need it.
      if to_regclass('realtime.' || v_name) is null then
        execute format('create table realtime.%I (like realtime.messages including all)', v_name);
        execute format('alter table realtime.%I enable row level security', v_name);
        if v_owner <> current_user then
          execute format('alter table realtime.%I owner to %I', v_name, v_owner);
        end if;
      end if;
      execute format('alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)',
        v_name, v_day::timestamp, (v_day + 1)::timestamp);
      created := created + 1;
      -- A partition with broadcasts in it stays.
      insert into rollcall_internal.installed_objects (kind, name, undo)
        select 'partition', 'realtime.' || v_name, format('do $undo$ begin '
          'if exists (select from pg_catalog.pg_inherits i where i.inhrelid = to_regclass(%1$L)) then '
          'if not exists (select from realtime.%2$I) then '
          'drop table realtime.%2$I; end if; end if; end $undo$', 'realtime.' || v_name, v_name)
        where not exists (
          select from rollcall_internal.installed_objects o where o.name = 'realtime.messages' and o.kind = 'table');
    exception when invalid_object_definition then
      -- Another partition holds part of that day.
      null;
    end;
  end loop;

  for v_old in
    select c.oid::regclass as partition
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = v_parent
      and c.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
      and to_date(right(c.relname, 10), 'YYYY_MM_DD') + 1 <= v_now - p_keep
  loop
    perform pg_advisory_xact_lock(hashtextextended('rollcall.message_partitions', 0));
    begin
      delete from rollcall_internal.installed_objects o where o.kind = 'partition' and o.name = v_old.partition::text;
      execute format('drop table if exists %s', v_old.partition);
      dropped := dropped + 1;
    exception when lock_not_available or undefined_table then
      -- A reader holds it, and the next call tries again; or another node dropped it.
      null;
    end;
  end loop;
  return next;
end
$$;
comment on function rollcall.maintain_message_partitions is
  'Creates the partitions of realtime.messages that are needed and drops expired ones; returns how many of each.';
grant execute on function rollcall.maintain_message_partitions to service_role;

-- `<ms since 1970>|<id>,<id>…` in insertion order, at most 200 ids per payload of less than 8,000 bytes.
-- Definer: called from the trigger for any sender.
create function rollcall_internal.on_messages_inserted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids constant uuid[] := array(select n.id from new_rows n);
begin
  for v_first in 1 .. cardinality(v_ids) by 200 loop
    perform rollcall_internal.notify('rollcall_messages', array_to_string(v_ids[v_first : v_first + 199], ','));
  end loop;
  return null;
end
$$;
comment on function rollcall_internal.on_messages_inserted is
  'Trigger function: notifies nodes of new rows of realtime.messages by their ids.';

-- Definer: the owner of Rollcall may create it if it is a member of the table's owner.
create function rollcall.enable_message_notifications() returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '3s'
as $$
begin
  if to_regclass('realtime.messages') is null then
    return false;
  end if;
  if not exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = to_regclass('realtime.messages') and t.tgname = 'rollcall_messages' and t.tgenabled in ('O', 'A'))
  then
    -- A probe of the policies sets this and is not notified.
    execute $trigger$
      create or replace trigger rollcall_messages after insert on realtime.messages
        referencing new table as new_rows for each statement
        when (current_setting('rollcall.probe', true) is distinct from 'on')
        execute function rollcall_internal.on_messages_inserted()
    $trigger$;
  end if;
  return true;
exception when insufficient_privilege or lock_not_available then
  return false;
end
$$;
comment on function rollcall.enable_message_notifications is
  'Creates the trigger on realtime.messages; false where that is not allowed.';

-- On Supabase the table belongs to Supabase: there the operator decides, and doctor shows the statements.
do $$
begin
  if exists (select from pg_roles where rolname = 'supabase_auth_admin') then
    return;
  end if;
  if not rollcall.enable_message_notifications() then
    raise notice 'no right to create a trigger on realtime.messages: broadcasts from the database are not delivered';
  end if;
  perform rollcall.maintain_message_partitions();
end
$$;

-- Bus between nodes ---------------------------------------------------------------------------------------------------

-- Broadcasts on their way to sockets of other nodes: at most once, in the order of each node. State does not travel
-- here. A node numbers its batches and repeats one whose write failed; the readers skip a number that they have.
create sequence rollcall_internal.bus_id;

-- Three partitions take turns every twenty seconds; the oldest is truncated, which costs nothing per row.
create table rollcall_internal.bus (
  id bigint not null default nextval('rollcall_internal.bus_id'),
  slot smallint not null,
  node uuid not null,
  batch bigint not null,
  payload bytea not null
) partition by list (slot);
comment on table rollcall_internal.bus is
  'Messages between nodes: one row holds many. Each other node reads it once; kept for half a minute.';
-- No policies: only the server reads and writes it.
alter table rollcall_internal.bus enable row level security;

create unlogged table rollcall_internal.bus_0 partition of rollcall_internal.bus (
  constraint bus_0_pkey primary key (id)
) for values in (0);
comment on table rollcall_internal.bus_0 is 'A third of the bus.';
alter table rollcall_internal.bus_0 enable row level security;

create unlogged table rollcall_internal.bus_1 partition of rollcall_internal.bus (
  constraint bus_1_pkey primary key (id)
) for values in (1);
comment on table rollcall_internal.bus_1 is 'A third of the bus.';
alter table rollcall_internal.bus_1 enable row level security;

create unlogged table rollcall_internal.bus_2 partition of rollcall_internal.bus (
  constraint bus_2_pkey primary key (id)
) for values in (2);
comment on table rollcall_internal.bus_2 is 'A third of the bus.';
alter table rollcall_internal.bus_2 enable row level security;

-- Definer: called by definer functions only.
create function rollcall_internal.bus_slot() returns smallint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (floor(extract(epoch from clock_timestamp()) / 20)::bigint % 3)::smallint;
end
$$;
comment on function rollcall_internal.bus_slot is 'The partition of the bus that takes messages now.';

-- NOTIFY carries the position, never the content: any role may LISTEN.
-- Definer: only the server writes the bus.
create function rollcall_internal.post_to_bus(p_node uuid, p_batch bigint, p_payload bytea) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_slot constant smallint := rollcall_internal.bus_slot();
  v_id bigint;
begin
  -- The row need not survive a crash.
  perform set_config('synchronous_commit', 'off', true);
  insert into rollcall_internal.bus (slot, node, batch, payload) values (v_slot, p_node, p_batch,
    p_payload) returning id into v_id;
  perform rollcall_internal.notify_directly('rollcall_bus', concat_ws(' ', p_node, v_slot, v_id));
end
$$;
comment on function rollcall_internal.post_to_bus is 'Sends a message to the other nodes.';

-- In the first half of a turn, when its content is 40 seconds old and no node can write to it. Where a reader holds
-- it, the next call tries again.
-- Definer: only the server writes the bus.
create function rollcall_internal.purge_bus() returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  v_next constant int := (rollcall_internal.bus_slot() + 1) % 3;
begin
  if extract(epoch from clock_timestamp())::numeric % 20 > 10
    or not pg_try_advisory_xact_lock(hashtextextended('rollcall_internal.purge_bus', 0))
  then
    return false;
  end if;
  perform set_config('synchronous_commit', 'off', true);
  execute format('truncate rollcall_internal.bus_%s', v_next);
  return true;
exception when lock_not_available then
  return false;
end
$$;
comment on function rollcall_internal.purge_bus is
  'Truncates the partition of the bus that is next; returns whether it did.';

-- schemas/55_channel_authorization.sql -------------------------------------------------------------------------------

-- Private channels: how the server evaluates the policies on realtime.messages, and how it learns that a decision may
-- differ. Policies are evaluated by a probe that is rolled back; nothing here decides. Every transaction that changes
-- something a decision depends on notifies `rollcall_rights`.

-- Evaluated as each caller: reads are rows of ours that it sees, writes are rows that it inserts. Call it in a
-- transaction that is rolled back. A policy that raises for one caller, or a role that does not exist, yields one row
-- with `error` for that caller only, and with `message` if a policy raised it. The i-th caller asks about
-- p_topics[p_topic[i]]; callers with equal roles one after the other save planning.
-- Invoker: it assumes the callers' roles, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies: each caller's role sets its own.
-- Over 60 lines: reads and writes of one caller share the role and the error handling.
create function rollcall_internal.probe_channels(
  p_topics text[], p_topic int[], p_role text[], p_sub text[], p_claims text[], p_headers text[], p_read boolean[],
  p_write boolean[]
) returns table (
  caller int, broadcast_read boolean, presence_read boolean, broadcast_write boolean, presence_write boolean,
  error text, message text
)
  language plpgsql volatile security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  -- Of each role once, before any role is assumed.
  v_paths constant pg_catalog.text[] := array(
    select p.path
    from pg_catalog.unnest(p_role) with ordinality as o (role, place)
    join (
      select d.role, rollcall.role_search_path(d.role) as path
        from (select distinct pg_catalog.unnest(p_role) as role) d offset 0
    ) p using (role)
    order by o.place
  );
  v_at constant timestamp := clock_timestamp() at time zone 'utc';
  v_broadcast constant pg_catalog.uuid[] := array(select gen_random_uuid() from pg_catalog.unnest(p_topics));
  v_presence constant pg_catalog.uuid[] := array(select gen_random_uuid() from pg_catalog.unnest(p_topics));
  v_messages constant pg_catalog.regclass := 'realtime.messages';
  -- A refusal by a policy and an error inside a policy, such as a missing grant on a table that it reads, have the
  -- same SQLSTATE. The message tells them apart; in other languages than English it names the table.
  v_refusal constant pg_catalog.text := case
    when current_setting('lc_messages') ~* '^(c|posix|en)' then '%row-level security%'
    else '%"messages"%' end;
  v_topic pg_catalog.text;
  v_has_role boolean;
  v_may_select boolean;
  v_may_insert boolean;
begin
  perform set_config('rollcall.probe', 'on', true);
  if true = any (p_read) then
    insert into realtime.messages (id, topic, extension, private, inserted_at, updated_at)
      select row.id, probe.topic, row.extension, false, v_at, v_at
      from unnest(p_topics, v_broadcast, v_presence) as probe (topic, broadcast_id, presence_id)
      cross join lateral (values (broadcast_id, 'broadcast'), (presence_id, 'presence')) as row (id, extension);
  end if;

  for i in 1 .. pg_catalog.cardinality(p_role) loop
    begin
      v_has_role := false;
      v_topic := p_topics[p_topic[i]];
      -- `none` resets the role to the session's own.
      perform set_config('role', case p_role[i] when 'none' then '' else p_role[i] end, true),
        set_config('search_path', v_paths[i], true),
        set_config('realtime.topic', v_topic, true),
        set_config('request.jwt.claims', p_claims[i], true),
        set_config('request.jwt.claim.sub', coalesce(p_sub[i], ''), true),
        set_config('request.jwt.claim.role', p_role[i], true),
        set_config('request.headers', p_headers[i], true);
      v_has_role := true;
      v_may_select := has_table_privilege(v_messages, 'select');
      v_may_insert := has_table_privilege(v_messages, 'insert');
      caller := i; error := null; message := null;
      broadcast_read := null; presence_read := null; broadcast_write := null; presence_write := null;
      if p_read[i] then
        select coalesce(bool_or(m.extension = 'broadcast'), false), coalesce(bool_or(m.extension = 'presence'), false)
          into broadcast_read, presence_read
          from realtime.messages m
          where m.id in (v_broadcast[p_topic[i]], v_presence[p_topic[i]]) and m.inserted_at = v_at;
      end if;
      if p_write[i] then
        -- Both in one statement, because most callers may do both or neither; each alone only where that is refused.
        begin
          insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
            values (v_topic, 'broadcast', false, v_at, v_at), (v_topic, 'presence', false, v_at, v_at);
          broadcast_write := true; presence_write := true;
        exception when insufficient_privilege then
          begin
            insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
              values (v_topic, 'broadcast', false, v_at, v_at);
            broadcast_write := true;
          exception when insufficient_privilege then
            if v_may_insert and sqlerrm not like v_refusal then
              raise;
            end if;
            broadcast_write := false;
          end;
          begin
            insert into realtime.messages (topic, extension, private, inserted_at, updated_at)
              values (v_topic, 'presence', false, v_at, v_at);
            presence_write := true;
          exception when insufficient_privilege then
            if v_may_insert and sqlerrm not like v_refusal then
              raise;
            end if;
            presence_write := false;
          end;
        end;
      end if;
    exception when others then
      broadcast_read := null; presence_read := null; broadcast_write := null; presence_write := null;
      caller := i; error := sqlstate;
      -- No message without the role, or without a grant to read.
      message := case when v_has_role and (sqlstate <> '42501' or v_may_select) then sqlerrm end;
    end;
    return next;
  end loop;
  perform set_config('role', 'none', true), set_config('search_path', v_own_path, true),
    set_config('rollcall.probe', '', true);
end
$$;
comment on function rollcall_internal.probe_channels is
  'What each of several callers may do in a private channel, evaluated by its policies.';

-- `p_claims` as in the token of a subscriber, `p_topic` without `realtime:`. One row per action and reason; `allowed`
-- is equal in all rows of an action. The row of the probe has the topic, the extension, and no payload.
-- Invoker: it assumes the subscriber's role, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies.
-- Over 60 lines: the probe, and each policy alone.
create function rollcall.explain_channel(p_claims jsonb, p_topic text)
  returns table (action text, allowed boolean, reason text)
  language plpgsql volatile security invoker
as $$
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_own_role constant pg_catalog.text := current_setting('role');
  v_role constant pg_catalog.text := coalesce(p_claims ->> 'role', 'anon');
  v_messages constant pg_catalog.regclass := 'realtime.messages';
  v_oid constant pg_catalog.oid := (select r.oid from pg_catalog.pg_roles r where r.rolname = v_role);
  v_probe record;
  v_policy record;
  v_action record;
  v_reasons pg_catalog.text[];
  v_holds boolean;
begin
  if v_oid is null then
    return query select a.name, false, pg_catalog.format('there is no role %s', v_role)
      from pg_catalog.unnest(array['read broadcast', 'read presence', 'write broadcast', 'write presence']) as a (name);
    return;
  end if;
  begin
    select * into v_probe
      from rollcall_internal.probe_channels(array[p_topic], array[1], array[v_role], array[p_claims ->> 'sub'],
        array[p_claims::pg_catalog.text], array['{}'], array[true], array[true]);
    raise exception using errcode = 'ZZ999';
  exception
    when sqlstate 'ZZ999' then
      -- The rows of the probe are gone.
    when others then
      select false as broadcast_read, false as presence_read, false as broadcast_write, false as presence_write,
        sqlstate as error, sqlerrm as message into v_probe;
  end;

  for v_action in
    select a.name, a.extension, a.command, a.allowed
    from (values
      ('read broadcast', 'broadcast', 'r', v_probe.broadcast_read),
      ('read presence', 'presence', 'r', v_probe.presence_read),
      ('write broadcast', 'broadcast', 'a', v_probe.broadcast_write),
      ('write presence', 'presence', 'a', v_probe.presence_write)
    ) as a (name, extension, command, allowed)
  loop
    v_reasons := case
      when v_probe.message is not null then
        array[pg_catalog.format('the evaluation raises %s: %s', v_probe.error, v_probe.message)]
      when v_probe.error is not null then
        array[pg_catalog.format('the role %s may not be assumed, or not use the table: %s', v_role, v_probe.error)]
      else '{}' end;
    if not has_table_privilege(v_oid, v_messages, case v_action.command when 'r' then 'select' else 'insert' end) then
      v_reasons := v_reasons || pg_catalog.format('the role %s may not %s realtime.messages (grants)', v_role,
        case v_action.command when 'r' then 'select' else 'insert into' end);
    elsif (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.oid = v_oid) then
      v_reasons := v_reasons || pg_catalog.format('row-level security does not bind the role %s', v_role);
    end if;
    -- Each policy that applies, alone, as the subscriber.
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    for v_policy in
      select p.polname, case when p.polpermissive then 'permissive' else 'restrictive' end as kind,
        pg_get_expr(case when p.polcmd in ('a', '*') and v_action.command = 'a' then coalesce(p.polwithcheck, p.polqual)
          else p.polqual end, p.polrelid) as condition
      from pg_catalog.pg_policy p
      where p.polrelid = v_messages and p.polcmd::pg_catalog.text in (v_action.command, '*')
        and rollcall_internal.policy_applies(p.polroles, v_oid)
      order by p.polpermissive, p.polname
    loop
      begin
        perform set_config('search_path', rollcall.role_search_path(v_role), true), set_config('role', v_role, true),
          set_config('realtime.topic', p_topic, true), set_config('request.jwt.claims', p_claims::pg_catalog.text,
            true),
          set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
          set_config('request.jwt.claim.role', v_role, true), set_config('request.headers', '{}', true);
        execute pg_catalog.format(
            'select coalesce(%s, false) from pg_catalog.jsonb_populate_record(null::realtime.messages, $1) as messages',
            coalesce(v_policy.condition, 'true')) into v_holds
          using pg_catalog.jsonb_build_object('id', gen_random_uuid(), 'topic', p_topic, 'extension',
            v_action.extension,
            'private', false, 'inserted_at', localtimestamp, 'updated_at', localtimestamp);
        v_reasons := v_reasons || pg_catalog.format('the %s policy "%s" %s', v_policy.kind, v_policy.polname,
          case when v_holds then 'allows it' else 'does not allow it' end);
      exception when others then
        -- As text, a policy may need rights that it does not need in the table, such as usage of a function's schema.
        v_reasons := v_reasons || case
          when (sqlstate, sqlerrm) = (v_probe.error, v_probe.message) then
            pg_catalog.format('the policy "%s" on realtime.messages raises %s for the role %s: %s', v_policy.polname,
              sqlstate,
              v_role, sqlerrm)
          else pg_catalog.format('the %s policy "%s" cannot be evaluated alone', v_policy.kind, v_policy.polname) end;
      end;
      -- The next policies are read with this path, which qualifies the names in their text.
      perform set_config('role', v_own_role, true), set_config('search_path', 'pg_catalog, pg_temp', true);
    end loop;
    perform set_config('search_path', v_own_path, true);
    if pg_catalog.cardinality(v_reasons) = 0 then
      v_reasons := array[pg_catalog.format('no policy on realtime.messages allows it for the role %s', v_role)];
    end if;
    return query select v_action.name, coalesce(v_action.allowed, false), r.reason
      from pg_catalog.unnest(v_reasons) as r (reason);
  end loop;
end
$$;
comment on function rollcall.explain_channel is
  'Why a subscriber may read or write broadcasts and presence of a private channel, or not.';

-- What a decision depends on ------------------------------------------------------------------------------------------

-- Notifies `<what>|<mark><masked hashes>`, or `<what>|` for null, none, and more than 500 hashes. The mark `=` says
-- that callers without these hashes are not concerned.
-- Invoker: see invalidate_authorization_for.
create function rollcall_internal.notify_authorization(p_what text, p_mark text, p_hashes text[]) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_what constant pg_catalog.text := pg_catalog.left(pg_catalog.replace(p_what, '|', ' '), 200);
  v_nonce pg_catalog.text;
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(p_hashes) between 1 and 500 then
    v_nonce := rollcall_internal.notification_nonce();
    v_void := rollcall_internal.notify('rollcall_rights',
      v_what || '|' || p_mark || pg_catalog.array_to_string(rollcall_internal.mask(v_nonce, p_hashes), ','), v_nonce);
  else
    v_void := rollcall_internal.notify('rollcall_rights', v_what || '|');
  end if;
end
$$;
comment on function rollcall_internal.notify_authorization is
  'Tells the nodes which callers of private channels a change concerns.';

-- Notifies `<what>|<masked hashes>`. Hashes are the first four bytes of SHA-256 values, in hexadecimal, of
-- values in the changed rows; callers whose user or topic has one of these hashes are evaluated first. Without hashes
-- all are evaluated at once.
-- Definer: called from triggers of any writer.
create function rollcall.invalidate_channel_authorization(p_what text, p_hashes text[] default '{}') returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.notify_authorization(p_what, '', case when not exists (
    select from unnest(p_hashes) as hashes (hash) where hashes.hash !~ '^[0-9a-f]{8}$' or hashes.hash is null
  ) then p_hashes end);
end
$$;
comment on function rollcall.invalidate_channel_authorization is
  'Makes every node evaluate the policies of private channels again.';
grant execute on function rollcall.invalidate_channel_authorization to service_role;

-- Invoker: computes from its argument.
create function rollcall_internal.value_hash(p_value text) returns text
  language sql immutable security invoker
as $$
  select pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p_value, 'UTF8')), 'hex'), 8)
$$;
comment on function rollcall_internal.value_hash is 'The first four bytes of the SHA-256 of a text, in hexadecimal.';

-- Invoker: computes from its arguments.
create function rollcall_internal.value_hashes(p_rows jsonb[]) returns text[]
  language plpgsql immutable security invoker
as $$
begin
  return case when pg_catalog.cardinality(p_rows) <= 100 then array(
    select distinct rollcall_internal.value_hash(field.value)
    from pg_catalog.unnest(p_rows) as changed (fields)
    cross join lateral pg_catalog.jsonb_each_text(changed.fields) field
    where pg_catalog.length(field.value) between 1 and 200
  ) else '{}' end;
end
$$;
comment on function rollcall_internal.value_hashes is
  'Hashes of the values in some rows; none for more than 100 rows, which stands for all callers.';

-- p_rows are the changed rows, at most 101 of them, or null if they are not known. p_named are the columns that name
-- whom a row concerns; without them, it may concern all.
-- Invoker, with the search_path of its caller, because it costs less in the transactions of applications: only trigger
-- functions call it.
create function rollcall_internal.invalidate_authorization_for(
  p_table regclass, p_source text, p_rows jsonb[], p_named text[]
) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_fields pg_catalog.jsonb;
  v_name pg_catalog.text;
  v_hash pg_catalog.text;
  v_hashes pg_catalog.text[] := '{}';
  v_void pg_catalog.text;
begin
  if pg_catalog.cardinality(p_rows) = 0 then
    return;
  end if;
  if pg_catalog.cardinality(p_rows) <= 100 then
    if p_named <> '{}' and p_rows[1] ?& p_named then
      foreach v_fields in array p_rows loop
        foreach v_name in array p_named loop
          v_hash := rollcall_internal.value_hash(v_fields ->> v_name);
          if v_hash is not null and v_hash <> all (v_hashes) then
            v_hashes := v_hashes || v_hash;
          end if;
        end loop;
      end loop;
      if v_hashes <> '{}' then
        v_void := rollcall_internal.notify_authorization(p_source, '=', v_hashes);
      end if;
      return;
    end if;
    if not rollcall_internal.has_virtual_column(p_table) then
      v_hashes := rollcall_internal.value_hashes(p_rows);
    end if;
  end if;
  v_void := rollcall_internal.notify_authorization(p_source, '', v_hashes);
end
$$;
comment on function rollcall_internal.invalidate_authorization_for is
  'Makes every node evaluate the policies of private channels again for those whom changed rows concern.';

-- Arguments: see p_named of invalidate_authorization_for.
-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_inserted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.invalidate_authorization_for(tg_relid, tg_table_schema || '.' || tg_table_name,
    array(select to_jsonb(n) from new_rows n limit 101), tg_argv[0 : tg_nargs - 1]);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_inserted is
  'Trigger function: rows inserted in a table that channel policies read invalidate authorization.';

-- A statement that changes no value is ignored. Arguments: the number of columns in p_named of
-- invalidate_authorization_for, these columns, and the columns that matter; none stands for all. The hashes are those
-- of the whole row, as the column with the user or topic need not have changed.
-- Definer: see invalidate_channel_authorization. Column names come from the catalog.
create function rollcall_internal.on_authorization_source_updated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_named text[];
  v_columns text[];
  v_before text[];
  v_after text[];
  v_rows jsonb[];
  v_void text;
begin
  -- An error here must not fail the statement of the application.
  begin
    v_named := tg_argv[1 : tg_argv[0]::integer];
    v_columns := tg_argv[tg_argv[0]::integer + 1 : tg_nargs - 1];
    if v_columns = '{}' then
      v_rows := array(
        (select to_jsonb(n) from new_rows n except all select to_jsonb(o) from old_rows o limit 51)
        union all
        (select to_jsonb(o) from old_rows o except all select to_jsonb(n) from new_rows n limit 51));
    -- Triggers read virtual generated columns as null.
    elsif not rollcall_internal.has_virtual_column(tg_relid, v_columns) then
      execute rollcall_internal.transitions_as_text(v_columns) into v_before, v_after;
      if v_before is not distinct from v_after then
        return null;
      end if;
      if cardinality(v_after) <= 1000 then
        v_rows := array(
          (select to_jsonb(n.r) from (select r, row_number() over () as n from new_rows r) as n (r, n)
            where v_before[n.n] is distinct from v_after[n.n] limit 51)
          union all
          (select to_jsonb(o.r) from (select r, row_number() over () as n from old_rows r) as o (r, n)
            where v_before[o.n] is distinct from v_after[o.n] limit 51));
      end if;
    end if;
  exception when others then
    v_rows := null;
  end;
  v_void := rollcall_internal.invalidate_authorization_for(tg_relid, tg_table_schema || '.' || tg_table_name, v_rows,
    v_named);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_updated is
  'Trigger function: rows updated in a table that channel policies read invalidate authorization.';

-- Arguments: see p_named of invalidate_authorization_for.
-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_deleted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_void text;
begin
  v_void := rollcall_internal.invalidate_authorization_for(tg_relid, tg_table_schema || '.' || tg_table_name,
    array(select to_jsonb(o) from old_rows o limit 101), tg_argv[0 : tg_nargs - 1]);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_deleted is
  'Trigger function: rows deleted in a table that channel policies read invalidate authorization.';

-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_truncated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform rollcall.invalidate_channel_authorization(tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_truncated is
  'Trigger function: truncating a table that channel policies read invalidates authorization.';

-- Functions of Rollcall are examined, because policies on realtime.messages may call them; functions in `realtime` are
-- not.
-- Definer: reads catalogs only.
create function rollcall.authorization_sources() returns setof regclass
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.policy_sources('authorization')
$$;
comment on function rollcall.authorization_sources is 'Tables that decide who may use private channels.';

-- Updates count if they change one of these columns, null stands for all. p_pairs names the users and topics that a row
-- concerns, as in concerned_columns. Returns false if the table was followed before, or if
-- rollcall.watch_authorization_source (p_is_declared) declared how.
-- Invoker: needs the right to create triggers on that table.
create function rollcall_internal.follow_authorization_source(
  p_table regclass, p_columns text[], p_pairs jsonb default null, p_is_declared boolean default false
) returns boolean
  language plpgsql security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns constant text[] := array(select c.name from unnest(p_columns) c (name) order by c.name);
  -- No column has an empty name.
  v_declared constant text[] := array['', 'declared'];
  -- The user alone names fewer callers than the topic.
  v_named constant text[] := array(
    select distinct coalesce(p.sides ->> 0, p.sides ->> 1) as name from jsonb_array_elements(p_pairs) as p (sides)
    order by name);
  v_is_followed constant boolean := exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = p_table and t.tgname = 'rollcall_authorization_truncate');
begin
  if not p_is_declared and exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = p_table and t.tgname = 'rollcall_authorization_insert'
      and t.tgargs = rollcall_internal.trigger_arguments(v_declared))
  then
    return false;
  end if;
  perform rollcall_internal.set_triggers(p_table, '^rollcall_authorization_', jsonb_build_array(
    jsonb_build_object('name', 'rollcall_authorization_insert', 'events', 'insert',
      'function', 'on_authorization_source_inserted',
      'arguments', case when p_is_declared then v_declared else v_named end),
    case when p_columns is distinct from '{}' then
      jsonb_build_object('name', 'rollcall_authorization_update', 'events', 'update',
        'function', 'on_authorization_source_updated',
        'arguments', cardinality(v_named)::text || v_named || v_columns) end,
    jsonb_build_object('name', 'rollcall_authorization_delete', 'events', 'delete',
      'function', 'on_authorization_source_deleted', 'arguments', v_named),
    jsonb_build_object('name', 'rollcall_authorization_truncate', 'events', 'truncate',
      'function', 'on_authorization_source_truncated', 'arguments', '{}'::text[])));
  return not v_is_followed;
end
$$;
comment on function rollcall_internal.follow_authorization_source is
  'Makes open private channels follow rows, and updates of some columns, of a table that decides who may use them.';

-- Tables that policies mention are followed automatically; call it for a table that only the text of a function names.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_authorization_source(p_table regclass) returns boolean
  language sql security invoker set search_path = pg_catalog, pg_temp
as $$
  select rollcall_internal.follow_authorization_source(p_table, null, null, true)
$$;
comment on function rollcall.watch_authorization_source is
  'Makes open private channels follow a table that decides who may use them; false when it is followed already.';
grant execute on function rollcall.watch_authorization_source to service_role;

-- Definer: the owner may create triggers on tables that it owns; doctor reports the others.
create function rollcall.watch_authorization_sources() returns setof regclass
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_columns text[];
begin
  -- One analysis at a time, so that each sees what the others committed.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.watch_sources', 0));
  perform rollcall_internal.examine_policies('authorization');
  for v_table in select s from rollcall.authorization_sources() s loop
    v_columns := rollcall_internal.columns_in_policies('authorization', v_table);
    begin
      if rollcall_internal.follow_authorization_source(v_table, v_columns,
        rollcall_internal.concerned_columns('authorization', v_table, v_columns))
      then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open private channels only when something else changes',
        v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_authorization_sources();', v_table,
          current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_authorization_sources is
  'Follows every table that policies on realtime.messages depend on; returns the tables that were added.';

-- Then a decision may change without a change of data. Found by text, so it may be true without need.
-- Definer: reads catalogs only.
create function rollcall_internal.authorization_depends_on_time() returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with asked (text) as (
    select concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_catalog.pg_policy p
    where p.polrelid = to_regclass('realtime.messages')
  )
  select exists (
    select from (
      select a.text from asked a
      union all
      select f.prosrc
      from pg_catalog.pg_proc f
      join pg_catalog.pg_namespace s on s.oid = f.pronamespace
        and s.nspname !~ '^pg_' and s.nspname not in ('information_schema', 'realtime', 'auth')
      where exists (select from asked a where position(f.proname || '(' in a.text) > 0)
    ) texts
    where texts.text ~* ('(now|clock_timestamp|transaction_timestamp|statement_timestamp|timeofday)\('
      '|current_(date|time)|localtime|''now''')
  )
$$;
comment on function rollcall_internal.authorization_depends_on_time is
  'Whether policies on realtime.messages, or functions they call, read the time.';

-- Definer: runs for any role that issues DDL.
create function rollcall_internal.on_authorization_ddl() returns event_trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Objects of Rollcall may be missing while they are dropped together.
  if to_regclass('realtime.messages') is null
    or to_regprocedure('rollcall.invalidate_channel_authorization(text, text[])') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE',
      'ALTER ROUTINE', 'DROP ROUTINE', 'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW',
      'ALTER MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE',
      'DROP TYPE', 'DROP SCHEMA', 'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    perform rollcall.invalidate_channel_authorization(lower(tg_tag));
  end if;
  -- A table may be created after the function that reads it, and a partition after its parent.
  if tg_tag = any (rollcall_internal.tags_of_new_dependencies())
    and rollcall_internal.ddl_concerns_policies('authorization')
  then
    perform rollcall.watch_authorization_sources();
  end if;
end
$$;
comment on function rollcall_internal.on_authorization_ddl is
  'Event trigger function: DDL invalidates the authorization of private channels.';

-- schemas/60_channel_presence.sql ------------------------------------------------------------------------------------

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

-- schemas/65_postgres_changes.sql ------------------------------------------------------------------------------------

-- What the server reads from the catalogs to deliver `postgres_changes`. Nothing here decides who may see a row:
-- grants and row-level security do, evaluated as the subscriber.

create table rollcall_internal.change_settings (
  relation regclass primary key,
  delete_rls boolean not null default false
);
comment on table rollcall_internal.change_settings is
  'How changes of a table are delivered. delete_rls: a DELETE only to subscribers that row-level security lets see the '
  'row; without a row here this holds for tables of the schema rollcall only.';
-- No policies: the owner writes it, the server reads it.
alter table rollcall_internal.change_settings enable row level security;
revoke all on rollcall_internal.change_settings from anon, authenticated, service_role;

-- Invoker: for the owner.
create view rollcall.change_settings with (security_invoker = true) as
  select s.relation, s.delete_rls from rollcall_internal.change_settings s;
comment on view rollcall.change_settings is
  'How changes of a table are delivered. delete_rls: a DELETE only to subscribers that row-level security lets see the '
  'row; without a row here this holds for tables of the schema rollcall only.';
revoke all on rollcall.change_settings from anon, authenticated, service_role;

-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.published_tables(p_schema text, p_table text)
  returns table (relation oid, schema_name text, table_name text)
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select c.oid, t.schemaname::text, t.tablename::text
  from pg_catalog.pg_publication_tables t
  join pg_catalog.pg_namespace n on n.nspname = t.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  where t.pubname = 'supabase_realtime'
    and p_schema in ('*', t.schemaname)
    and p_table in ('*', t.tablename)
$$;
comment on function rollcall_internal.published_tables is
  'Published tables that a subscription selects; `*` selects all.';

-- PostgreSQL before 18 publishes no generated columns, although the catalog may list them.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.published_columns(p_relation oid) returns text[]
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select array(
    select a.attname::text
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_publication_tables t on t.schemaname = n.nspname and t.tablename = c.relname
      and t.pubname = 'supabase_realtime'
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = any (t.attnames)
    where c.oid = p_relation
      and (a.attgenerated = '' or current_setting('server_version_num')::int >= 180000)
    order by a.attnum
  )
$$;
comment on function rollcall_internal.published_columns is
  'Columns of a table that the publication supabase_realtime publishes.';

-- The operator of the type's default operator class, which only superusers create, or one in the type's schema. A
-- domain has the operators of its base type.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.operator_schema(p_type oid, p_name text) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  with recursive base (oid, parent, type_schema) as (
    select t.oid, t.typbasetype, t.typnamespace from pg_catalog.pg_type t where t.oid = p_type
    union all
    select t.oid, t.typbasetype, t.typnamespace
    from base
    join pg_catalog.pg_type t on t.oid = base.parent
  ),
  candidate (schema_oid, rank) as (
    select o.oprnamespace, case m.amname when 'btree' then 1 else 2 end
    from base
    join pg_catalog.pg_opclass k on k.opcintype = base.oid and k.opcdefault
    join pg_catalog.pg_am m on m.oid = k.opcmethod and m.amname in ('btree', 'hash')
    join pg_catalog.pg_amop p on p.amopfamily = k.opcfamily and p.amoplefttype = base.oid and p.amoprighttype = base.oid
    join pg_catalog.pg_operator o on o.oid = p.amopopr and o.oprname = p_name
    where base.parent = 0
    union all
    select o.oprnamespace, 3
    from base
    join pg_catalog.pg_operator o on o.oprleft = base.oid and o.oprname = p_name and o.oprnamespace = base.type_schema
    where base.parent = 0
  )
  select coalesce((
    select quote_ident(n.nspname)
    from candidate
    join pg_catalog.pg_namespace n on n.oid = candidate.schema_oid
    order by candidate.rank
    limit 1
  ), 'pg_catalog')
$$;
comment on function rollcall_internal.operator_schema is
  'Quoted schema of the operator with which values of a type compare.';

-- To everyone (0), or to a role whose privileges it has.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.policy_applies(p_roles oid[], p_role oid) returns boolean
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return exists (select from unnest(p_roles) as applies (oid) where applies.oid = 0
    or pg_has_role(p_role, applies.oid, 'usage'));
end
$$;
comment on function rollcall_internal.policy_applies is 'Whether policies for these roles apply to a role.';

-- Invoker: reads a table that the server may read, and catalogs.
create function rollcall_internal.delete_is_secured(p_relation oid) returns boolean
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select s.delete_rls from rollcall_internal.change_settings s where s.relation = p_relation),
    (select c.relnamespace = 'rollcall'::regnamespace from pg_catalog.pg_class c where c.oid = p_relation))
$$;
comment on function rollcall_internal.delete_is_secured is
  'Whether a DELETE of a table is delivered only to those whom row-level security let see the row.';

-- See change_access. One row. The expressions are read as text, which is evaluated, and as trees, which show what
-- PostgreSQL does not record: references to the whole row, and functions of its own. Columns are recorded as
-- dependencies.
-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.change_condition(p_relation oid, p_role oid)
  returns table (condition text, reads text[], read_types text[], is_steady boolean)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
#variable_conflict use_column
begin
  return query
  with policy as materialized (
    select p.oid, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as says, p.polqual::text as tree
    from pg_catalog.pg_policy p
    where p.polrelid = p_relation and p.polcmd in ('r', '*') and p.polqual is not null
      and rollcall_internal.policy_applies(p.polroles, p_role)
  ),
  column_read as (
    select a.attname, format_type(a.atttypid, a.atttypmod) as of,
      -- The value must survive a conversion to text and back, with the same collation.
      a.attcollation in (0, t.typcollation) and t.typname !~ '^reg' as survives
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped and a.attnum in (
      select d.refobjsubid
      from policy
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = policy.oid
        and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p_relation
    )
  )
  select
    -- The row is relation 1 of the outermost level; column 0 is the whole row, system columns are negative.
    case when not exists (select from policy where tree ~ '\{VAR (?!:varno \d+ :varattno [1-9])(?!:varno (?!1 )\d)')
      and not exists (select from column_read where not survives)
    then coalesce((
      -- Without a permissive policy no row is visible.
      select '(' || string_agg('(' || says || ')', ' or ') filter (where polpermissive) || ')'
        || coalesce(' and ' || string_agg('(' || says || ')', ' and ') filter (where not polpermissive), '')
      from policy
    ), 'false') end,
    array(select attname::text from column_read order by attname),
    array(select of from column_read order by attname),
    not exists (
      select from policy
      cross join regexp_matches(policy.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') as called (part)
      join pg_catalog.pg_proc f on f.oid = called.part[1]::oid
      where f.provolatile = 'v'
    ) and not exists (select from policy where tree ~ 'TABLESAMPLECLAUSE');
end
$$;
comment on function rollcall_internal.change_condition is
  'The policies of a table for a role, as a condition over values.';

-- One row per table and role; none for a table that does not exist.
--   is_known       the role exists
--   columns        columns that the role may select
--   key            columns of the primary key
--   is_exempt      row-level security does not apply to the role
--   owner_columns  if every policy that applies compares a uuid column with auth.uid() for equality: these columns; a
--               row is
--                  visible if one of them holds the viewer's id. Null if a policy says anything else
--   name           the table's name, quoted, under which the condition knows its columns
--   condition      the policies, with qualified names; null where they cannot be evaluated on values: a policy reads
--               the whole
--                  row, a system column, or a column whose value does not survive as text
--   reads          columns that the condition reads, with their types in read_types
--   is_steady      equal values give equal results within one statement: no function in it is volatile
-- Only policies for roles whose privileges the role has apply, as in PostgreSQL; membership alone is not enough.
-- Invoker: reads catalogs that every role may read.
-- Over 60 lines: one statement.
create function rollcall_internal.change_access(p_relations oid[], p_roles text[])
  returns table (
    relation oid, role text, is_known boolean, columns text[], key text[], key_types text[], qualified text,
    is_secured boolean, is_exempt boolean, deletes_are_secured boolean, owner_columns text[],
    name text, condition text, reads text[], read_types text[], is_steady boolean
  )
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
#variable_conflict use_column
begin
  return query
  select c.oid, requested.role, r.oid is not null,
    case when r.oid is null or not has_schema_privilege(r.oid, c.relnamespace, 'usage') then '{}'
      else array(
        select a.attname::text
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
        order by a.attnum
      )
    end,
    k.names, k.types, format('%I.%I', n.nspname, c.relname),
    c.relrowsecurity, bound.is_exempt,
    rollcall_internal.delete_is_secured(c.oid),
    owned.columns, quote_ident(c.relname), asks.condition, asks.reads, asks.read_types, asks.is_steady
  from unnest(p_relations) as wanted (oid)
  join pg_catalog.pg_class c on c.oid = wanted.oid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  cross join unnest(p_roles) as requested (role)
  left join pg_catalog.pg_roles r on r.rolname = requested.role
  cross join lateral (
    select not c.relrowsecurity
      or coalesce(r.rolsuper or r.rolbypassrls
        or not c.relforcerowsecurity and pg_has_role(r.oid, c.relowner, 'usage'), false) as is_exempt
  ) bound
  cross join lateral (
    select coalesce(array_agg(a.attname::text order by part.place), '{}') as names,
      coalesce(array_agg(format('%I.%I', tn.nspname, t.typname) order by part.place), '{}') as types
    from pg_catalog.pg_index i
    cross join unnest(i.indkey::int2[]) with ordinality as part (attnum, place)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
    where i.indrelid = c.oid and i.indisprimary and part.place <= i.indnkeyatts
  ) k
  cross join lateral (
    select case
      when bool_and(p.polpermissive and own.attname is not null) is not false and (
        -- auth.uid() reads the claims directly; blanks and parentheses do not matter.
        select regexp_replace(f.prosrc, '[\s();]', '', 'g') from pg_catalog.pg_proc f
          where f.oid = to_regprocedure('auth.uid()')
      ) = 'selectcoalescenullifcurrent_setting''request.jwt.claim.sub'',true,'''','
        'nullifcurrent_setting''request.jwt.claims'',true,''''::jsonb->>''sub''::uuid'
      then coalesce(array_agg(own.attname::text) filter (where own.attname is not null), '{}')
    end as columns
    from pg_catalog.pg_policy p
    left join lateral (
      select a.attname
      from pg_catalog.pg_attribute a
      where a.attrelid = p.polrelid and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype
        and pg_get_expr(p.polqual, p.polrelid) in (
          format('(%I = auth.uid())', a.attname), format('(auth.uid() = %I)', a.attname),
          format('(%I = ( SELECT auth.uid() AS uid))', a.attname),
            format('(( SELECT auth.uid() AS uid) = %I)', a.attname)
        )
    ) own on true
    where p.polrelid = c.oid and p.polcmd in ('r', '*') and rollcall_internal.policy_applies(p.polroles, r.oid)
  ) owned
  left join lateral rollcall_internal.change_condition(c.oid, r.oid) asks on c.relrowsecurity and not bound.is_exempt;
end
$$;
comment on function rollcall_internal.change_access is 'What roles may read of tables that are subscribed to.';

-- A backend writes its commit to the WAL before it leaves the list of running transactions. Ids come without their
-- epoch.
-- Invoker: reads snapshots only.
create function rollcall_internal.wait_until_visible(p_xids bigint[]) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_next constant bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  v_xid bigint;
begin
  foreach v_xid in array p_xids loop
    -- The full id is the one within 2^31 of the next.
    v_xid := v_xid + (v_next - v_next % 4294967296);
    v_xid := v_xid - case when v_xid - v_next > 2147483648 then 4294967296 else 0 end;
    v_xid := v_xid + case when v_next - v_xid > 2147483648 then 4294967296 else 0 end;
    while not pg_visible_in_snapshot(v_xid::text::xid8, pg_current_snapshot()) loop
      perform pg_sleep(0.0005);
    end loop;
  end loop;
end
$$;
comment on function rollcall_internal.wait_until_visible is
  'Waits until committed transactions are visible to new snapshots.';

-- Patterns and the keywords of `is` stay as they are.
-- Invoker: casts only.
create function rollcall_internal.canonical_literals(p_type oid, p_operator text, p_value text) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := rollcall_internal.type_name(p_type);
  v_literals text[];
begin
  if p_operator in ('is', 'like', 'ilike', 'match', 'imatch') then
    return array[p_value];
  end if;
  if p_operator = 'in' then
    execute format('select coalesce(array_agg(case when num_nulls(v) = 0 then format(''%%s'', v) end order by place), '
      '''{}'') '
      'from unnest($1::%s[]) with ordinality as list (v, place)', v_type)
      into v_literals using p_value;
  else
    -- Not a cast to text, which differs from the output function for some types: true instead of t.
    execute format('select array[format(''%%s'', $1::%s)]', v_type) into v_literals using p_value;
  end if;
  return v_literals;
end
$$;
comment on function rollcall_internal.canonical_literals is
  'The literals of a filter in the types output form, one per list member.';

-- As the server evaluates filters: with the operators of the type.
-- Invoker: compares literals only.
create function rollcall_internal.filter_matches(p_type oid, p_operator text, p_negated boolean, p_value text,
  p_values text[])
  returns boolean[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_equality constant text := rollcall_internal.operator_schema(p_type, '=');
  v_pattern constant text := rollcall_internal.operator_schema(p_type, '~~');
  v_type constant text := rollcall_internal.type_name(p_type);
  v_test text;
  v_holds boolean[];
begin
  v_test := case p_operator
    when 'in' then format('v::%1$s operator(%2$s.=) any ($2::%1$s[])', v_type, v_equality)
    when 'isdistinct' then format('not coalesce(v::%1$s operator(%2$s.=) $2::%1$s, false)', v_type, v_equality)
    when 'like' then format('v::%s operator(%s.~~) $2', v_type, v_pattern)
    when 'ilike' then format('v::%s operator(%s.~~*) $2', v_type, v_pattern)
    when 'match' then format('v::%s operator(%s.~) $2', v_type, v_pattern)
    when 'imatch' then format('v::%s operator(%s.~*) $2', v_type, v_pattern)
    else format('v::%1$s operator(%2$s.%3$s) $2::%1$s', v_type, v_equality, case p_operator
      when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<=' when 'gt' then '>'
      when 'gte' then '>=' end)
  end;
  execute format(
    'select array_agg(coalesce((%s) <> $3, false) order by place) '
    'from unnest($1) with ordinality as list (v, place)', v_test
  ) into v_holds using p_values, p_value, p_negated;
  return v_holds;
end
$$;
comment on function rollcall_internal.filter_matches is
  'Which of some values match a filter, in their order; never null.';

-- Some types compare their members only when there are values, so the literal is compared with itself.
-- Invoker: compares literals only.
create function rollcall_internal.check_operator(p_type oid, p_operator text, p_value text) returns void
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_literals constant text[] := rollcall_internal.canonical_literals(p_type, p_operator, p_value);
begin
  perform rollcall_internal.filter_matches(p_type, p_operator, false, p_value, v_literals);
exception when undefined_function then
  raise exception 'operator % requires a column type with that comparison, got %',
    p_operator, format_type(p_type, null);
end
$$;
comment on function rollcall_internal.check_operator is 'Raises an error if a type has no operator for a filter.';

-- With the messages of Supabase Realtime's trigger.
-- Invoker: reads privileges of a role and casts literals.
-- Over 60 lines: one check per operator.
create function rollcall_internal.check_change_params(
  p_relation oid, p_role text, p_columns text[], p_operators text[], p_values text[], p_select text[]
) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_role constant oid := (select r.oid from pg_catalog.pg_roles r where r.rolname = p_role);
  v_readable constant text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(v_role, p_relation, a.attnum, 'select')
  );
  v_published constant text[] := rollcall_internal.published_columns(p_relation);
  v_type oid;
  v_shown text;
  v_castable text;
begin
  if v_role is null then
    raise exception using errcode = 'undefined_object', message = format('role "%s" does not exist', p_role);
  end if;
  for i in 1 .. coalesce(cardinality(p_columns), 0) loop
    if not p_columns[i] = any (v_readable) then
      raise exception 'invalid column for filter %', p_columns[i];
    elsif not p_columns[i] = any (v_published) then
      raise exception 'invalid column for filter %: the publication supabase_realtime does not publish it',
        p_columns[i];
    end if;
    select t.oid, format_type(t.oid, null), format('%I.%I', n.nspname, t.typname) into v_type, v_shown, v_castable
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      where a.attrelid = p_relation and a.attname = p_columns[i];
    case p_operators[i]
      when 'in' then
        if cardinality(rollcall_internal.canonical_literals(v_type, 'in', p_values[i])) > 100 then
          raise exception 'too many values for `in` filter. Maximum 100';
        end if;
        perform rollcall_internal.check_operator(v_type, p_operators[i], p_values[i]);
      when 'is' then
        if lower(p_values[i]) not in ('null', 'true', 'false', 'unknown') then
          raise exception 'invalid value for is filter: must be null, true, false, or unknown';
        elsif lower(p_values[i]) <> 'null' and v_type <> 'boolean'::regtype then
          raise exception 'is % filter requires a boolean column, got %', p_values[i], v_shown;
        end if;
      when 'like', 'ilike', 'match', 'imatch' then
        if not exists (
          select from pg_catalog.pg_operator o
          where o.oprname = '~~' and o.oprleft = rollcall_internal.base_type(v_type)
        ) and rollcall_internal.base_type(v_type) not in ('varchar'::regtype, 'text'::regtype) then
          raise exception 'operator % requires a text-compatible column type, got %', p_operators[i], v_shown;
        end if;
        if p_operators[i] in ('match', 'imatch') then
          begin
            perform '' ~ p_values[i];
          exception when invalid_regular_expression then
            raise exception 'invalid regular expression for % filter: %', p_operators[i], sqlerrm;
          end;
        end if;
      else
        perform rollcall_internal.check_operator(v_type, p_operators[i], p_values[i]);
    end case;
  end loop;
  for i in 1 .. coalesce(cardinality(p_select), 0) loop
    if not p_select[i] = any (v_readable) then
      raise exception 'invalid column for select %', p_select[i];
    elsif not p_select[i] = any (v_published) then
      raise exception 'invalid column for select %: the publication supabase_realtime does not publish it', p_select[i];
    end if;
  end loop;
end
$$;
comment on function rollcall_internal.check_change_params is
  'Raises an error for filters and columns that a subscription may not use.';

-- For types that the server cannot render.
-- Invoker: casts only.
create function rollcall_internal.render_values(p_type oid, p_values text[]) returns text[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_type constant text := rollcall_internal.type_name(p_type);
  v_json text[];
begin
  execute format(
    'select array_agg(to_jsonb(v::%s)::text order by place) from unnest($1) with ordinality as list (v, place)', v_type
  ) into v_json using p_values;
  return v_json;
end
$$;
comment on function rollcall_internal.render_values is 'Values as to_jsonb writes them, in their order.';

-- One row per note; none if every change may be delivered.
-- Invoker: reads catalogs that every role may read.
-- Over 60 lines: one statement.
create function rollcall_internal.change_notes(p_relation oid, p_role text) returns setof text
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
  set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  with found as (
    select a.*, p_relation::regclass::text as shown, a.is_secured and not a.is_exempt as is_bound,
      coalesce(a.condition = 'false' or a.owner_columns = '{}', false) as is_barred
    from rollcall_internal.change_access(array[p_relation], array[p_role]) a
  )
  select note.says
  from found f
  left join lateral (
    select string_agg(name, ', ') as columns
    from unnest(f.reads) as read (name)
    where not exists (
      select from pg_catalog.pg_class c
      left join pg_catalog.pg_index i on i.indrelid = c.oid
        and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = read.name
      where c.oid = p_relation and (c.relreplident = 'f' or a.attnum = any (i.indkey::int2[]))
    )
  ) unknown on true
  left join lateral (
    select nullif(concat_ws(', ', case when not p.pubinsert then 'INSERT' end, case when not p.pubupdate
      then 'UPDATE' end,
      case when not p.pubdelete then 'DELETE' end), '') as left_out,
      (select t.rowfilter from pg_catalog.pg_publication_tables t
       join pg_catalog.pg_namespace n on n.nspname = t.schemaname
       join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
       where t.pubname = p.pubname and c.oid = p_relation) as rowfilter
    from pg_catalog.pg_publication p
    where p.pubname = 'supabase_realtime'
  ) published on true
  -- Functions that policies call, in schemas that the server may not use: it resolves the names as itself.
  cross join lateral (
    select string_agg(distinct format('%I.%I', n.nspname, c.proname), ', ') as functions
    from pg_catalog.pg_policy p
    join pg_catalog.pg_roles r on r.rolname = p_role
    cross join regexp_matches(p.polqual::text, ':funcid (\d+)', 'g') as called (part)
    join pg_catalog.pg_proc c on c.oid = called.part[1]::oid
    join pg_catalog.pg_namespace n on n.oid = c.pronamespace
    where p.polrelid = p_relation and p.polcmd in ('r', '*') and not has_schema_privilege(n.oid, 'usage')
      and rollcall_internal.policy_applies(p.polroles, r.oid)
  ) closed
  -- Only columns that the role may select are named.
  cross join lateral (
    select string_agg(a.attname, ', ' order by a.attnum) filter (where not kind.is_generated) as columns,
      string_agg(a.attname, ', ' order by a.attnum) filter (where kind.is_generated) as generated
    from pg_catalog.pg_attribute a
    cross join lateral (
      select a.attgenerated <> '' and current_setting('server_version_num')::int < 180000 as is_generated
    ) kind
    where a.attrelid = p_relation and a.attnum > 0 and a.attname::text = any (f.columns)
      and not a.attname::text = any (rollcall_internal.published_columns(p_relation))
  ) absent
  cross join lateral (values
    (not f.is_known, format('there is no role %s', p_role)),
    (f.is_known and (f.columns = '{}' or not f.key <@ f.columns),
      format('the role %s may not select the primary key of %s: its changes come as errors, once', p_role, f.shown)),
    (f.key = '{}', format('%s has no primary key: its INSERTs and UPDATEs come as errors, once', f.shown)),
    (f.is_bound and f.is_barred,
      format('row-level security of %s is on, and no policy lets the role %s select: '
        'none of its INSERTs and UPDATEs come', f.shown, p_role)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and f.condition is null,
      format('no DELETE of %s comes: its policies take the row as a whole, and cannot be asked about one that is gone',
        f.shown)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and unknown.columns is not null,
      format('no DELETE of %1$s comes: policies read %2$s, which is not in its replica identity '
        '(alter table %1$s replica identity full)', f.shown, unknown.columns)),
    (f.is_bound and f.deletes_are_secured and not f.is_barred and closed.functions is not null,
      format('no DELETE of %s comes: its policies call %s, in a schema that the server''s role %s may not use',
        f.shown, closed.functions, current_user)),
    (published.left_out is not null, format('the publication supabase_realtime does not publish %s',
      published.left_out)),
    (absent.columns is not null, format('the publication supabase_realtime does not publish these columns of %s: %s',
      f.shown, absent.columns)),
    (absent.generated is not null, format('PostgreSQL before 18 does not publish generated columns, so these columns '
      'of %s do not come: %s', f.shown, absent.generated)),
    (published.rowfilter is not null, format('of %s the publication supabase_realtime publishes only rows with %s',
      f.shown, published.rowfilter))
  ) as note (is_so, says)
  where note.is_so;
end
$$;
comment on function rollcall_internal.change_notes is 'Which changes of a table a role never receives, and why.';

-- `p_claims` as in the subscriber's token, `p_key` the primary key as an object, `p_filter` one condition of the
-- subscription (`column=op.value`) or empty. One row per reason; `delivered` is equal in all of them. Includes
-- change_notes.
-- Invoker: it assumes the subscriber's role, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies.
-- Over 60 lines: the checks of the server, in its order.
create function rollcall.explain_change(p_claims jsonb, p_relation regclass, p_key jsonb, p_filter text default '')
  returns table (delivered boolean, reason text)
  language plpgsql volatile security invoker
as $$
declare
  v_own_path constant pg_catalog.text := current_setting('search_path');
  v_role constant pg_catalog.text := coalesce(p_claims ->> 'role', 'anon');
  -- Under the table's own name, which policies use.
  v_name constant pg_catalog.text := (select quote_ident(c.relname)
    from pg_catalog.pg_class c where c.oid = p_relation);
  v_oid pg_catalog.oid;
  v_access record;
  v_where pg_catalog.text;
  v_exists boolean;
  v_delivered boolean;
  v_filter pg_catalog.text[];
  v_type pg_catalog.oid;
  v_value pg_catalog.text;
  v_holds boolean;
  v_policy record;
  v_reasons pg_catalog.text[] := '{}';
begin
  if not exists (select from rollcall_internal.published_tables('*', '*') p where p.relation = p_relation) then
    return query select false, pg_catalog.format('%s is not in the publication supabase_realtime', p_relation);
    return;
  end if;
  select * into v_access from rollcall_internal.change_access(array[p_relation::pg_catalog.oid], array[v_role]);
  if not v_access.is_known then
    return query select false, pg_catalog.format('there is no role %s', v_role);
    return;
  elsif pg_catalog.cardinality(v_access.key) = 0 then
    return query select false, pg_catalog.format('%s has no primary key', p_relation);
    return;
  elsif not v_access.key <@ v_access.columns then
    return query select false,
      pg_catalog.format('the role %s may not select the primary key of %s (grants)', v_role, p_relation);
    return;
  end if;
  select pg_catalog.format('from %s as %s where ', v_access.qualified, v_name)
      || pg_catalog.string_agg(pg_catalog.format('%s.%I = %L::%s', v_name, k.name, p_key ->> k.name, k.of), ' and ')
        into v_where
    from unnest(v_access.key, v_access.key_types) as k (name, of);
  execute pg_catalog.format('select exists (select %s)', v_where) into v_exists;
  if not v_exists then
    return query select false, 'there is no such row (any more)';
    return;
  end if;

  if p_filter <> '' then
    v_filter := regexp_match(p_filter, '^([^=]+)=(not\.)?([a-z]+)\.(.*)$');
    if v_filter is null or not v_filter[1] = any (v_access.columns) then
      return query select false, pg_catalog.format('the filter %s names no column that the role may select', p_filter);
      return;
    elsif not v_filter[1] = any (rollcall_internal.published_columns(p_relation)) then
      return query select false,
        pg_catalog.format('the filter %s names a column that the publication supabase_realtime does not publish',
          p_filter);
      return;
    end if;
    -- Within quotes, \x stands for x.
    if v_filter[3] <> 'in' and v_filter[4] like '"%"' then
      v_filter[4] := regexp_replace(substr(v_filter[4], 2, length(v_filter[4]) - 2), '\\(.)', '\1', 'g');
    end if;
    select atttypid into v_type from pg_catalog.pg_attribute where attrelid = p_relation and attname = v_filter[1];
    execute pg_catalog.format('select %s.%I::pg_catalog.text %s', v_name, v_filter[1], v_where) into v_value;
    if v_filter[3] = 'is' then
      v_holds := coalesce(v_value, 'null') = replace(v_filter[4], 'unknown', 'null');
      v_holds := v_holds <> (v_filter[2] is not null);
    else
      v_holds := (rollcall_internal.filter_matches(v_type, v_filter[3], v_filter[2] is not null,
        case when v_filter[3] = 'in' then '{' || trim(both '()' from v_filter[4]) || '}' else v_filter[4] end,
        array[v_value]))[1];
    end if;
    if not v_holds then
      return query select false, pg_catalog.format('the filter %s does not hold', p_filter);
      return;
    end if;
  end if;

  if v_access.is_exempt then
    return query select true, case
      when v_access.is_secured then pg_catalog.format('row-level security does not bind the role %s', v_role)
      else pg_catalog.format('%s has no row-level security, and the role %s may select it', p_relation, v_role)
    end
    union all
    select true, n from rollcall_internal.change_notes(p_relation, v_role) n;
    return;
  end if;

  perform set_config('request.jwt.claims', p_claims::pg_catalog.text, true),
    set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
    set_config('request.jwt.claim.role', v_role, true);
  begin
    perform set_config('search_path', rollcall.role_search_path(v_role), true), set_config('role', v_role, true);
    execute pg_catalog.format('select exists (select %s)', v_where) into v_delivered;
    perform set_config('role', 'none', true), set_config('search_path', v_own_path, true);
  exception when others then
    perform set_config('role', 'none', true);
    return query select false, pg_catalog.format('row-level security of %s raises for this subscriber: %s', p_relation,
      sqlerrm);
    return;
  end;
  -- Each policy that applies, alone. What a policy reads elsewhere is read with the rights of the session here, so
  -- only the result above counts.
  select oid into v_oid from pg_catalog.pg_roles where rolname = v_role;
  for v_policy in
    select p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as condition
    from pg_catalog.pg_policy p
    where p.polrelid = p_relation and p.polcmd in ('r', '*')
      and rollcall_internal.policy_applies(p.polroles, v_oid)
    order by p.polpermissive, p.polname
  loop
    begin
      execute pg_catalog.format('select coalesce(%s, false) %s', coalesce(v_policy.condition, 'false'), v_where)
        into v_holds;
    exception when others then
      v_holds := null;
    end;
    v_reasons := v_reasons || pg_catalog.format('the %s policy "%s" %s',
      case when v_policy.polpermissive then 'permissive' else 'restrictive' end, v_policy.polname,
      case when v_holds then 'lets it through' when v_holds is null then 'cannot be looked at alone'
        else 'does not let it through' end);
  end loop;
  if pg_catalog.cardinality(v_reasons) = 0 then
    v_reasons := array[pg_catalog.format('row-level security is on, and no policy lets the role %s select', v_role)];
  end if;
  return query select v_delivered, r.reason from pg_catalog.unnest(v_reasons || array(select n
    from rollcall_internal.change_notes(p_relation, v_role) n))
    as r (reason);
end
$$;
comment on function rollcall.explain_change is 'Why a change of a row is delivered to a subscriber, or not.';

-- schemas/68_channels_finish.sql -------------------------------------------------------------------------------------

-- Rights of functions, and what depends on everything before: the event trigger and followed tables.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

-- Without the right to create event triggers, servers compare fingerprints of the policies instead.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_authorization_watch') then
    create event trigger rollcall_authorization_watch on ddl_command_end
      execute function rollcall_internal.on_authorization_ddl();
  end if;
exception when insufficient_privilege then
  raise notice 'no right to create an event trigger: policies are compared by fingerprint instead';
end
$$;

do $$
begin
  perform rollcall.watch_authorization_sources();
  perform rollcall_internal.record_triggers();
end
$$;

-- Records itself, whichever tool applies it.
insert into rollcall.schema_migrations (version, name) values ('20261128000000', 'channels');
