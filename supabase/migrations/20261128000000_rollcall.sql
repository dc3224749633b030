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

create table rollcall.schema_migrations (
  version text not null constraint schema_migrations_pkey primary key,
  name text not null,
  applied_at timestamptz not null default now()
);
comment on table rollcall.schema_migrations is
  'Migrations of Rollcall that were applied. Each migration inserts its own row, whichever tool applies it.';
-- No policies: for the owner and the doctor.
alter table rollcall.schema_migrations enable row level security;

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

-- For definer functions that must not set search_path, because they fire triggers of users or evaluate their policies:
-- all names in them are qualified, and functions and operators of pg_catalog come first unless search_path says
-- otherwise.
-- Invoker: reads a setting. Its own names are all qualified.
create function rollcall_internal.check_search_path() returns void
  language plpgsql stable security invoker
as $$
begin
  if pg_catalog.strpos(pg_catalog.current_setting('search_path'), 'pg_catalog') operator(pg_catalog.>) 1 then
    raise exception 'search_path lists pg_catalog after another schema'
      using errcode = 'invalid_parameter_value',
        hint = 'Remove pg_catalog from search_path: it is searched first anyway.';
  end if;
end
$$;
comment on function rollcall_internal.check_search_path is
  'Raises an error when search_path lists pg_catalog after another schema.';

-- In the order of PostgreSQL: role in database, role, database; else "$user", public, extensions. SET ROLE does not
-- apply these settings, so the server applies this one.
-- Invoker: reads catalogs that every role may read.
create function rollcall.role_search_path(p_role text) returns text
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_role constant oid := coalesce(to_regrole(quote_ident(p_role)), 0);
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
  language sql immutable parallel safe security invoker set search_path = ''
as $$
  select case when isfinite(p_time) then to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    else p_time::text end
$$;
comment on function rollcall.iso_time is
  'A time as every answer of the server has it: RFC 3339 in UTC with three fractional digits.';
grant execute on function rollcall.iso_time to authenticated, service_role;

-- Types ---------------------------------------------------------------------------------------------------------------

-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.base_type(p_type oid) returns oid
  language sql stable security invoker set search_path = ''
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
  language sql stable security invoker set search_path = ''
as $$
  select format('%I.%I', n.nspname, t.typname)
  from pg_catalog.pg_type t
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where t.oid = p_type
$$;
comment on function rollcall_internal.type_name is 'The qualified name of a type, for casts.';

-- Personal data -------------------------------------------------------------------------------------------------------

-- Every function that exports or erases reads this table.
create table rollcall.personal_data (
  relation regclass not null,
  column_name text not null,
  exported boolean not null,
  erase_order int,
  reason text,
  constraint personal_data_pkey primary key (relation, column_name),
  constraint personal_data_gives_a_reason check ((exported and erase_order is not null) or reason is not null)
);
comment on table rollcall.personal_data is
  'Every column that names a user: whether its rows are in that user''s export, and when they are deleted in an '
  'erasure. A table with such a column needs a row here.';
comment on column rollcall.personal_data.erase_order is 'Lower is deleted first; null is kept.';
comment on column rollcall.personal_data.reason is 'Why rows are not exported, or are kept.';
alter table rollcall.personal_data enable row level security;
create policy "everyone reads the registry" on rollcall.personal_data for select to authenticated using (true);
create policy "service_role reads" on rollcall.personal_data for select to service_role using (true);
revoke all on rollcall.personal_data from anon, authenticated, service_role;
grant select on rollcall.personal_data to authenticated, service_role;

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
  language plpgsql volatile security invoker set search_path = ''
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

-- Invoker: computes a random value.
create function rollcall_internal.notification_nonce() returns text
  language sql volatile security invoker set search_path = ''
as $$
  select left(replace(gen_random_uuid()::text, '-', ''), 16)
$$;
comment on function rollcall_internal.notification_nonce is 'A random value that is used for one notification.';

-- Values are at most 32 bytes in hexadecimal. Each is combined with a hash of the key, the nonce and its number.
-- Definer: reads the key.
create function rollcall_internal.mask(p_nonce text, p_values text[]) returns text[]
  language sql stable security definer set search_path = ''
as $$
  select array_agg(encode(substr(varbit_send(('x' || value.hex)::varbit # ('x' || left(
      encode(sha256(k.key || convert_to(p_nonce || '#' || value.number, 'UTF8')), 'hex'), length(value.hex)))::varbit
    ), 5), 'hex') order by value.number)
  from rollcall_internal.notification_key k
  cross join unnest(p_values) with ordinality as value (hex, number)
$$;
comment on function rollcall_internal.mask is 'Values of a notification, unreadable without the key.';

-- Invoker: see mask.
create function rollcall_internal.mask_ids(p_nonce text, p_ids uuid[]) returns text[]
  language sql stable security invoker set search_path = ''
as $$
  select rollcall_internal.mask(p_nonce, array(
    select replace(ids.id::text, '-', '') from unnest(p_ids) with ordinality as ids (id, number) order by ids.number))
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
  language sql immutable security invoker set search_path = ''
as $$
  select concat(left(encode(
      sha256(p_key || sha256(p_key || convert_to(concat(p_channel, ':', p_nonce, ':', p_body), 'UTF8'))), 'hex'), 16),
    '.', p_nonce, '.', p_body)
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
  v_nonce constant text := coalesce(p_nonce, pg_catalog.pg_current_xact_id()::text);
  v_key bytea;
  v_log_token uuid;
  v_relayed boolean;
begin
  select k.key, k.log_token, r.relayed_until > pg_catalog.clock_timestamp()
      and pg_catalog.current_setting('rollcall.notify', true) is distinct from 'directly'
    into strict v_key, v_log_token, v_relayed
  from rollcall_internal.notification_key k cross join rollcall_internal.relay r;
  if v_relayed then
    perform pg_catalog.pg_logical_emit_message(true, 'rollcall',
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
  language sql volatile security definer set search_path = ''
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
  language plpgsql volatile security definer set search_path = ''
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
  language plpgsql volatile security definer set search_path = ''
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

-- The claim of a node, which it repeats until it has a stream. While notifications may be missing, each call makes the
-- nodes read the tables.
-- Definer: called by the server.
create function rollcall_internal.claim_relay(p_node uuid, p_claim interval) returns boolean
  language plpgsql volatile security definer set search_path = '' set synchronous_commit = 'off'
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
-- Definer: called by the server.
create function rollcall_internal.start_relay(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer set search_path = '' set synchronous_commit = 'off'
as $$
declare
  v_missed_since timestamptz;
begin
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

-- Also sends when another node has taken over, which may not have these.
-- Definer: called by the server.
create function rollcall_internal.send_relayed(p_channels text[], p_payloads text[]) returns void
  language sql volatile security definer set search_path = '' set synchronous_commit = 'off'
as $$
  select pg_notify(n.channel, n.payload)
  from unnest(p_channels, p_payloads) with ordinality n (channel, payload, number)
  order by n.number
$$;
comment on function rollcall_internal.send_relayed is
  'Sends notifications that the relay read from the log, in this order.';

-- p_read_until: the newest mark that came back, and all before it was sent. A stream that is late therefore ends the
-- lease, and transactions send notifications themselves until it has caught up.
-- Definer: called by the server.
create function rollcall_internal.renew_relay(p_node uuid, p_lease interval, p_read_until timestamptz) returns boolean
  language plpgsql volatile security definer set search_path = '' set synchronous_commit = 'off'
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
  language sql volatile security definer set search_path = ''
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
  language sql volatile security invoker set search_path = ''
as $$
  select (extract(epoch from clock_timestamp()) * 1000)::bigint
$$;
comment on function rollcall_internal.notification_time is
  'Now, in milliseconds since 1970. The server measures the delay of notifications by it.';

-- schemas/10_visibility_log.sql --------------------------------------------------------------------------------------

-- How the database notifies servers of changes of presence and of who may see whom. A notification carries ids, never
-- content. What may be seen is read again under row-level security, and every change of visibility is in
-- rollcall_internal.visibility_log in the transaction that made it.

-- A reader that takes faces and this log in one snapshot knows whether the results of row-level security that it
-- cached are as new as the faces. Unlogged: after a crash every node starts without a cache.
create unlogged table rollcall_internal.visibility_log (
  id bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  viewers uuid[],
  subjects uuid[],
  reason text not null,
  noted_at timestamptz not null default now()
);
comment on table rollcall_internal.visibility_log is
  'Which viewers must be queried again about which subjects; null stands for all. Kept for two minutes. Unlogged.';
create index visibility_log_xid on rollcall_internal.visibility_log (xid);
-- For face_was_deleted.
create index visibility_log_deleted_faces on rollcall_internal.visibility_log (id) where reason = 'face deleted';
-- No policies: only the server reads it.
alter table rollcall_internal.visibility_log enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.visibility_log', 'viewers', false, null, 'ids only, deleted after two minutes'),
  ('rollcall_internal.visibility_log', 'subjects', false, null, 'ids only, deleted after two minutes');

-- IDs of transactions, positions in the log and sequences go back when a standby is promoted or a backup is restored.
-- Definer: called by the server.
create function rollcall_internal.cluster_identity() returns text
  language sql volatile security definer set search_path = ''
as $$
  select c.system_identifier || ':'
    || case when pg_is_in_recovery() then 'standby' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end
  from pg_control_system() c
$$;
comment on function rollcall_internal.cluster_identity is
  'The cluster and its timeline; numbers that were read under another identity cannot be compared.';

-- Records that what these viewers see of these subjects may have changed; null stands for all. More than 1,000 users
-- are recorded as all, which costs less than the list.
-- Invoker, with the search_path of its caller, because it costs less in the transactions of applications: only definer
-- functions call it.
create function rollcall_internal.note_visibility_change(p_viewers uuid[], p_subjects uuid[], p_reason text)
  returns void
  language plpgsql volatile security invoker
as $$
begin
  insert into rollcall_internal.visibility_log (viewers, subjects, reason)
  values (
    case when pg_catalog.cardinality(p_viewers) <= 1000 then p_viewers end,
    case when pg_catalog.cardinality(p_subjects) <= 1000 then p_subjects end,
    p_reason
  );
  -- Equal payloads of one transaction are sent once.
  perform rollcall_internal.notify('rollcall_visibility', '');
end
$$;
comment on function rollcall_internal.note_visibility_change is
  'Appends to the visibility log and notifies the nodes; null stands for all.';

-- Definer: appends to a table that no API role may write.
create function rollcall.invalidate_visibility(p_viewers uuid[], p_subjects uuid[], p_reason text) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform rollcall_internal.note_visibility_change(p_viewers, p_subjects, p_reason);
end
$$;
comment on function rollcall.invalidate_visibility is
  'Makes every node query row-level security again for these viewers and subjects; null stands for all.';
grant execute on function rollcall.invalidate_visibility to service_role;

-- Sends ids as notifications of the form `<ms since 1970>|<id>,<id>…`, at most 200 ids each, because a payload is
-- limited to 8,000 bytes.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_ids(p_channel text, p_ids uuid[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_nonce text;
begin
  for v_first in 1 .. coalesce(cardinality(p_ids), 0) by 200 loop
    v_nonce := rollcall_internal.notification_nonce();
    perform rollcall_internal.notify(p_channel, rollcall_internal.notification_time() || '|'
      || array_to_string(rollcall_internal.mask_ids(v_nonce, p_ids[v_first : v_first + 199]), ','), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_ids is 'Sends ids as notifications, at most 200 per payload.';

-- Trigger functions ---------------------------------------------------------------------------------------------------

-- TRUNCATE has no transition tables, so all visibility is invalidated.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_truncated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall_internal.note_visibility_change(null, null, 'truncate ' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_truncated is 'Trigger function: a truncated table invalidates all visibility.';

-- Rows that name one subject: invalidates what every viewer sees of it.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_subjects_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then select array(select n.user_id from new_rows n) into v_ids;
    when 'DELETE' then select array(select o.user_id from old_rows o) into v_ids;
    else select array(select n.user_id from new_rows n union select o.user_id from old_rows o) into v_ids;
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_subjects_changed is
  'Trigger function: changed rows invalidate what anyone sees of their users.';

-- Members of a group: invalidates visibility between the members that changed and all members of their groups.
-- Arguments: the column that names the group.
-- Definer: see invalidate_visibility. The column name is a trigger argument from this schema only.
create function rollcall_internal.on_members_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_moved uuid[];
  v_others uuid[];
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
begin
  execute format('select array(select distinct user_id from (%s) changed)', v_rows) into v_moved;
  if cardinality(v_moved) = 0 then
    return null;
  end if;
  execute format(
    'select array(select m.user_id from rollcall.%I m where m.%I in (select changed.%2$I from (%3$s) changed) '
    'union select unnest($1))',
    tg_table_name, tg_argv[0], v_rows) into v_others using v_moved;
  perform rollcall_internal.note_visibility_change(v_others, v_moved, tg_table_name);
  perform rollcall_internal.note_visibility_change(v_moved, v_others, tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_members_changed is
  'Trigger function: changed memberships invalidate the visibility within the group.';

-- Whether a user is invisible decides who sees them type. Faces have triggers of their own.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_choices_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then select array(select n.user_id from new_rows n where n.chosen = 'invisible') into v_ids;
    when 'DELETE' then select array(select o.user_id from old_rows o where o.chosen = 'invisible') into v_ids;
    else select array(
        select coalesce(n.user_id, o.user_id) from new_rows n full join old_rows o using (user_id)
        where (n.chosen is not distinct from 'invisible') <> (o.chosen is not distinct from 'invisible')
      ) into v_ids;
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(null, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_choices_changed is
  'Trigger function: starting or ending invisibility invalidates who sees the user type.';

-- Invoker: writes only the new row.
create function rollcall_internal.set_updated_at() returns trigger
  language plpgsql security invoker set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function rollcall_internal.set_updated_at is 'Trigger function: sets updated_at.';

-- schemas/15_relations.sql -------------------------------------------------------------------------------------------

-- How users are related: contacts, blocks, teams, conversations. Two users have at most one contact row, whoever
-- requested it.

-- Definer: a policy on team_members that reads team_members would recurse. Answers for auth.uid() only. PL/pgSQL,
-- because the body of an SQL function is planned again in every statement that calls it.
create function rollcall.my_teams() returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 10
as $$
begin
  return query select m.team_id from rollcall.team_members m where m.user_id = auth.uid();
end
$$;
comment on function rollcall.my_teams is 'Teams of the caller.';
grant execute on function rollcall.my_teams to authenticated, service_role;

-- Rows of rollcall.conversations: of the built-in table of participants, and of the application's where its IDs are
-- UUIDs. Typing uses my_conversation_ids.
-- Definer: see my_teams. Answers for auth.uid() only.
create function rollcall.my_conversations() returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 100
as $$
begin
  if not exists (select from rollcall_internal.own_tables o where o.relation = 'participants') then
    return query select p.conversation_id from rollcall.conversation_participants p where p.user_id = auth.uid();
  else
    return query
      select p.conversation_id from rollcall.conversation_participants p where p.user_id = auth.uid()
      union
      select rollcall_internal.text_as_uuid(c.id) from rollcall_internal.conversations_of(auth.uid()) as c (id)
        where rollcall_internal.text_as_uuid(c.id) is not null;
  end if;
end
$$;
comment on function rollcall.my_conversations is 'Conversations with messages that the caller takes part in.';
grant execute on function rollcall.my_conversations to authenticated, service_role;

create table rollcall.contacts (
  requester_id uuid not null,
  addressee_id uuid not null,
  accepted_at timestamptz,
  created_at timestamptz not null default now(),
  constraint contacts_pkey primary key (requester_id, addressee_id),
  constraint contacts_not_oneself check (requester_id <> addressee_id)
);
comment on table rollcall.contacts is 'Requested by one user, accepted by the other; counts once accepted_at is set.';
create index contacts_addressee_id on rollcall.contacts (addressee_id);
create unique index contacts_pair on rollcall.contacts (least(requester_id, addressee_id),
  greatest(requester_id, addressee_id));
alter table rollcall.contacts enable row level security;
create policy "both sides read a contact" on rollcall.contacts
  for select to authenticated
  using ((select auth.uid()) in (requester_id, addressee_id));
create policy "users request contacts" on rollcall.contacts
  for insert to authenticated
  with check (requester_id = (select auth.uid()) and accepted_at is null);
create policy "addressees accept contacts" on rollcall.contacts
  for update to authenticated
  using (addressee_id = (select auth.uid())) with check (addressee_id = (select auth.uid()));
create policy "both sides delete a contact" on rollcall.contacts
  for delete to authenticated
  using ((select auth.uid()) in (requester_id, addressee_id));
create policy "service_role has full access" on rollcall.contacts
  for all to service_role using (true) with check (true);
revoke all on rollcall.contacts from anon, authenticated, service_role;
grant select, delete, insert (requester_id, addressee_id), update (accepted_at) on rollcall.contacts to authenticated;
grant all on rollcall.contacts to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.contacts', 'requester_id', true, null, 'a relation of two users; either deletes it'),
  ('rollcall.contacts', 'addressee_id', true, null, 'a relation of two users; either deletes it');

-- Definer: see note_visibility_change.
create function rollcall_internal.on_contacts_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then
      v_ids := array(select n.requester_id from new_rows n union select n.addressee_id from new_rows n);
    when 'DELETE' then
      v_ids := array(select o.requester_id from old_rows o union select o.addressee_id from old_rows o);
    else
      v_ids := array(
        select n.requester_id from new_rows n union select n.addressee_id from new_rows n
        union select o.requester_id from old_rows o union select o.addressee_id from old_rows o
      );
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_contacts_changed is
  'Trigger function: changed contacts invalidate what both users see of each other.';

create trigger invalidate_after_insert after insert on rollcall.contacts
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_contacts_changed();
create trigger invalidate_after_update after update on rollcall.contacts
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_contacts_changed();
create trigger invalidate_after_delete after delete on rollcall.contacts
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_contacts_changed();
create trigger invalidate_after_truncate after truncate on rollcall.contacts
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.blocks (
  blocker_id uuid not null,
  blocked_id uuid not null,
  created_at timestamptz not null default now(),
  constraint blocks_pkey primary key (blocker_id, blocked_id),
  constraint blocks_not_oneself check (blocker_id <> blocked_id)
);
comment on table rollcall.blocks is
  'A block in either direction hides both users from each other and overrides everything else.';
create index blocks_blocked_id on rollcall.blocks (blocked_id);
alter table rollcall.blocks enable row level security;
-- Blocked users must not learn of the block.
create policy "own blocks" on rollcall.blocks
  for all to authenticated
  using (blocker_id = (select auth.uid())) with check (blocker_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.blocks
  for all to service_role using (true) with check (true);
revoke all on rollcall.blocks from anon, authenticated, service_role;
grant select, delete, insert (blocker_id, blocked_id) on rollcall.blocks to authenticated;
grant all on rollcall.blocks to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.blocks', 'blocker_id', true, null, 'kept after an erasure, so that blocked users stay blocked'),
  ('rollcall.blocks', 'blocked_id', false, null, 'another user''s choice, which blocked users must not learn of');

-- Definer: see note_visibility_change.
create function rollcall_internal.on_blocks_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then
      v_ids := array(select n.blocker_id from new_rows n union select n.blocked_id from new_rows n);
    when 'DELETE' then
      v_ids := array(select o.blocker_id from old_rows o union select o.blocked_id from old_rows o);
    else
      v_ids := array(
        select n.blocker_id from new_rows n union select n.blocked_id from new_rows n
        union select o.blocker_id from old_rows o union select o.blocked_id from old_rows o
      );
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_blocks_changed is
  'Trigger function: changed blocks invalidate what both users see of each other.';

create trigger invalidate_after_insert after insert on rollcall.blocks
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_blocks_changed();
create trigger invalidate_after_update after update on rollcall.blocks
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_blocks_changed();
create trigger invalidate_after_delete after delete on rollcall.blocks
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_blocks_changed();
create trigger invalidate_after_truncate after truncate on rollcall.blocks
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.teams (
  id uuid primary key default gen_random_uuid(),
  name text not null constraint teams_name_length check (char_length(name) between 1 and 255),
  owner_id uuid not null,
  created_at timestamptz not null default now()
);
comment on table rollcall.teams is 'Groups whose members see each other when their visibility is team.';
create index teams_owner_id on rollcall.teams (owner_id);
alter table rollcall.teams enable row level security;
create policy "members and owners read a team" on rollcall.teams
  for select to authenticated
  using (owner_id = (select auth.uid()) or id in (select rollcall.my_teams()));
create policy "owners manage a team" on rollcall.teams
  for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.teams
  for all to service_role using (true) with check (true);
revoke all on rollcall.teams from anon, authenticated, service_role;
grant select, delete, insert (id, name, owner_id), update (name) on rollcall.teams to authenticated;
grant all on rollcall.teams to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.teams', 'owner_id', true, null, 'a team belongs to its members too');

create table rollcall.team_members (
  team_id uuid not null references rollcall.teams (id) on delete cascade,
  user_id uuid not null,
  accepted_at timestamptz default now(),
  created_at timestamptz not null default now(),
  constraint team_members_pkey primary key (team_id, user_id)
);
comment on table rollcall.team_members is
  'Members of teams. Counts once accepted_at is set, so that owners can only invite.';
create index team_members_user_id on rollcall.team_members (user_id);
alter table rollcall.team_members enable row level security;
create policy "members read each other" on rollcall.team_members
  for select to authenticated
  using (team_id in (select rollcall.my_teams())
    or team_id in (select t.id from rollcall.teams t where t.owner_id = (select auth.uid())));
-- Without the consent of invited users anyone could create a team, add them, and see them as team members.
create policy "owners invite members" on rollcall.team_members
  for insert to authenticated
  with check (
    team_id in (select t.id from rollcall.teams t where t.owner_id = (select auth.uid()))
    and (accepted_at is null or user_id = (select auth.uid()))
  );
create policy "members accept for themselves" on rollcall.team_members
  for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "owners remove members, members leave" on rollcall.team_members
  for delete to authenticated
  using (user_id = (select auth.uid())
    or team_id in (select t.id from rollcall.teams t where t.owner_id = (select auth.uid())));
create policy "service_role has full access" on rollcall.team_members
  for all to service_role using (true) with check (true);
revoke all on rollcall.team_members from anon, authenticated, service_role;
grant select, delete, insert (team_id, user_id, accepted_at),
  update (accepted_at) on rollcall.team_members to authenticated;
grant all on rollcall.team_members to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.team_members', 'user_id', true, null, 'membership, not presence; members delete the row to leave');

create trigger invalidate_after_insert after insert on rollcall.team_members
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('team_id');
create trigger invalidate_after_update after update on rollcall.team_members
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('team_id');
create trigger invalidate_after_delete after delete on rollcall.team_members
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_members_changed('team_id');
create trigger invalidate_after_truncate after truncate on rollcall.team_members
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.conversations (
  id uuid primary key default gen_random_uuid(),
  title text constraint conversations_title_length check (char_length(title) <= 255),
  created_by uuid not null,
  created_at timestamptz not null default now(),
  last_message_at timestamptz
);
comment on table rollcall.conversations is 'Conversations, in which users type and write messages.';
comment on column rollcall.conversations.last_message_at is 'When the last message was written. Set by a trigger.';
create index conversations_created_by on rollcall.conversations (created_by);
alter table rollcall.conversations enable row level security;
create policy "participants read a conversation" on rollcall.conversations
  for select to authenticated
  using (created_by = (select auth.uid()) or id in (select rollcall.my_conversations()));
create policy "users create conversations" on rollcall.conversations
  for insert to authenticated
  with check (created_by = (select auth.uid()));
create policy "creators change a conversation" on rollcall.conversations
  for update to authenticated
  using (created_by = (select auth.uid())) with check (created_by = (select auth.uid()));
create policy "creators delete a conversation" on rollcall.conversations
  for delete to authenticated
  using (created_by = (select auth.uid()));
create policy "service_role has full access" on rollcall.conversations
  for all to service_role using (true) with check (true);
revoke all on rollcall.conversations from anon, authenticated, service_role;
grant select, delete, insert (id, title, created_by), update (title) on rollcall.conversations to authenticated;
grant all on rollcall.conversations to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.conversations', 'created_by', true, null, 'a conversation belongs to its participants too');

grant insert (last_message_at), update (last_message_at) on rollcall.conversations to service_role;

create table rollcall.conversation_participants (
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  joined_at timestamptz not null default now(),
  constraint conversation_participants_pkey primary key (conversation_id, user_id)
);
comment on table rollcall.conversation_participants is 'Participants of conversations.';
create index conversation_participants_user_id on rollcall.conversation_participants (user_id);
alter table rollcall.conversation_participants enable row level security;
create policy "participants read each other" on rollcall.conversation_participants
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversations())
    or conversation_id in (select c.id from rollcall.conversations c where c.created_by = (select auth.uid())));
create policy "creators add participants" on rollcall.conversation_participants
  for insert to authenticated
  with check (conversation_id in (select c.id from rollcall.conversations c where c.created_by = (select auth.uid())));
create policy "creators remove participants, participants leave" on rollcall.conversation_participants
  for delete to authenticated
  using (user_id = (select auth.uid())
    or conversation_id in (select c.id from rollcall.conversations c where c.created_by = (select auth.uid())));
create policy "service_role has full access" on rollcall.conversation_participants
  for all to service_role using (true) with check (true);
revoke all on rollcall.conversation_participants from anon, authenticated, service_role;
grant select, delete, insert (conversation_id, user_id) on rollcall.conversation_participants to authenticated;
grant all on rollcall.conversation_participants to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.conversation_participants', 'user_id', true, null,
    'membership, not presence; participants delete the row to leave');

create trigger invalidate_after_insert after insert on rollcall.conversation_participants
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('conversation_id');
create trigger invalidate_after_update after update on rollcall.conversation_participants
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_members_changed('conversation_id');
create trigger invalidate_after_delete after delete on rollcall.conversation_participants
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_members_changed('conversation_id');
create trigger invalidate_after_truncate after truncate on rollcall.conversation_participants
  for each statement execute function rollcall_internal.on_truncated();

-- Accepted contacts, team members and participants of shared conversations. The policies on user_presence decide which
-- of them are visible.
-- Definer: reads relations without evaluating the policies of their tables. Answers for auth.uid() only.
create function rollcall.my_relations() returns setof uuid
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    select related.id
    from (
      select c.id from rollcall_internal.contacts_of(v_me) as c (id)
      union
      select t.id from rollcall_internal.team_mates_of(v_me) as t (id)
      union
      select p.id from rollcall_internal.conversation_mates_of(v_me) as p (id)
    ) related
    where related.id <> v_me;
end
$$;
comment on function rollcall.my_relations is 'Users related to the caller, whether visible or not.';
grant execute on function rollcall.my_relations to authenticated, service_role;

-- schemas/16_own_tables.sql ------------------------------------------------------------------------------------------

-- Where relations come from: the built-in tables, or tables of the application. Every policy, function and query reads
-- relations through the functions of this file and no other way. With a built-in table such a function is an SQL
-- function that the planner inlines; rollcall.use_table replaces it with one over the application's table.

create table rollcall_internal.own_tables (
  relation text not null constraint own_tables_pkey primary key
    constraint own_tables_relation_is_known check (relation in ('contacts', 'blocks', 'team_members', 'participants')),
  source regclass not null,
  user_column name not null,
  other_column name,
  group_column name,
  condition text,
  search_path text not null,
  shape text not null,
  definition text not null,
  followed_columns name[] not null,
  used_since timestamptz not null default now()
);
comment on table rollcall_internal.own_tables is
  'Tables of the application that relations are read from. A relation without a row comes from its built-in table.';
comment on column rollcall_internal.own_tables.search_path is 'The search_path under which the condition was declared.';
comment on column rollcall_internal.own_tables.shape is
  'Name of the table and types of its columns, as the functions were generated for.';
comment on column rollcall_internal.own_tables.definition is
  'The query that gives user_key and other_key, or group_key and user_key, with qualified names.';
comment on column rollcall_internal.own_tables.followed_columns is
  'The key columns and the columns that the condition reads: a change of another column changes no relation.';
-- No policies: only the server reads it.
alter table rollcall_internal.own_tables enable row level security;

-- A dropped table counts as not used, also before its row is deleted.
-- Definer: shows names only, from a schema that API roles may not use; service_role only.
create function rollcall.tables_in_use() returns table (relation text, source text, built_in boolean,
  user_column name, other_column name, group_column name, condition text, used_since timestamptz)
  language sql stable security definer set search_path = ''
as $$
  select b.relation, coalesce(o.source, b.source) as source, o.relation is null as built_in,
    coalesce(o.user_column, b.user_column) as user_column, coalesce(o.other_column, b.other_column) as other_column,
    coalesce(o.group_column, b.group_column) as group_column, o.condition, o.used_since
  from (values
    ('contacts', 'rollcall.contacts', 'requester_id'::name, 'addressee_id'::name, null::name),
    ('blocks', 'rollcall.blocks', 'blocker_id', 'blocked_id', null),
    ('team_members', 'rollcall.team_members', 'user_id', null, 'team_id'),
    ('participants', 'rollcall.conversation_participants', 'user_id', null, 'conversation_id')
  ) as b (relation, source, user_column, other_column, group_column)
  left join (
    select t.relation, format('%I.%I', n.nspname, c.relname) as source, t.user_column, t.other_column, t.group_column,
      t.condition, t.used_since
    from rollcall_internal.own_tables t
    join pg_catalog.pg_class c on c.oid = t.source
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  ) o on o.relation = b.relation
$$;
comment on function rollcall.tables_in_use is 'The rows of rollcall.used_tables.';
grant execute on function rollcall.tables_in_use to service_role;

-- Invoker: whoever may call the function reads its rows.
create view rollcall.used_tables with (security_invoker = true) as
  select t.relation, t.source, t.built_in, t.user_column, t.other_column, t.group_column, t.condition, t.used_since
  from rollcall.tables_in_use() t;
comment on view rollcall.used_tables is
  'The table that each relation is read from: a built-in one, or one that rollcall.use_table declared.';
revoke all on rollcall.used_tables from anon, authenticated, service_role;
grant select on rollcall.used_tables to service_role;

-- Keys as text --------------------------------------------------------------------------------------------------------

-- Invoker: computes from its argument. Without settings, so that it is inlined.
create function rollcall_internal.text_as_uuid(p_text text) returns uuid
  language sql immutable security invoker
as $$
  select case when p_text ~* '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$' then p_text::uuid end
$$;
comment on function rollcall_internal.text_as_uuid is 'Text as UUID, or null where it is none.';

-- Invoker: computes from its argument. Without settings, so that it is inlined.
create function rollcall_internal.text_as_bigint(p_text text) returns bigint
  language sql immutable security invoker
as $$
  select case when p_text ~ '^-?[0-9]{1,19}$'
    then case when p_text::numeric between -9223372036854775808 and 9223372036854775807 then p_text::bigint end end
$$;
comment on function rollcall_internal.text_as_bigint is 'Text as integer, or null where it is none.';

-- Built-in tables -----------------------------------------------------------------------------------------------------

-- Invoker and without settings, so that all of these are inlined into the calling statement. For the server only.

create function rollcall_internal.built_in_contacts_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select c.addressee_id from rollcall.contacts c where c.requester_id = p_user and c.accepted_at is not null
  union all
  select c.requester_id from rollcall.contacts c where c.addressee_id = p_user and c.accepted_at is not null
$$;
comment on function rollcall_internal.built_in_contacts_of is 'Accepted contacts of a user in the built-in table.';

create function rollcall_internal.built_in_blocked_with(p_user uuid) returns setof uuid
  language sql stable security invoker rows 10
as $$
  select b.blocked_id from rollcall.blocks b where b.blocker_id = p_user
  union all
  select b.blocker_id from rollcall.blocks b where b.blocked_id = p_user
$$;
comment on function rollcall_internal.built_in_blocked_with is
  'Users on the other side of a block, in either direction, in the built-in table.';

create function rollcall_internal.built_in_blocks_between(p_one uuid, p_other uuid) returns setof boolean
  language sql stable security invoker rows 1
as $$
  select true from rollcall.blocks b where b.blocker_id = p_one and b.blocked_id = p_other
  union all
  select true from rollcall.blocks b where b.blocker_id = p_other and b.blocked_id = p_one
$$;
comment on function rollcall_internal.built_in_blocks_between is
  'One row per block between two users in the built-in table.';

create function rollcall_internal.built_in_team_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select theirs.user_id from rollcall.team_members mine
  join rollcall.team_members theirs using (team_id)
  where mine.user_id = p_user and mine.accepted_at is not null and theirs.accepted_at is not null
$$;
comment on function rollcall_internal.built_in_team_mates_of is
  'Members of the teams of a user, the user included, in the built-in table.';

create function rollcall_internal.built_in_team_members_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select m.user_id from rollcall.team_members m
  where m.accepted_at is not null
    and m.team_id = any (array(select rollcall_internal.text_as_uuid(g.id) from unnest(p_groups) as g (id)))
$$;
comment on function rollcall_internal.built_in_team_members_in is 'Members of some teams in the built-in table.';

create function rollcall_internal.built_in_conversations_of(p_user uuid) returns setof text
  language sql stable security invoker rows 50
as $$
  select p.conversation_id::text from rollcall.conversation_participants p where p.user_id = p_user
$$;
comment on function rollcall_internal.built_in_conversations_of is 'Conversations of a user in the built-in table.';

create function rollcall_internal.built_in_conversation_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select theirs.user_id from rollcall.conversation_participants mine
  join rollcall.conversation_participants theirs using (conversation_id)
  where mine.user_id = p_user
$$;
comment on function rollcall_internal.built_in_conversation_mates_of is
  'Participants of the conversations of a user, the user included, in the built-in table.';

create function rollcall_internal.built_in_participants_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select p.user_id from rollcall.conversation_participants p
  where p.conversation_id = any (array(select rollcall_internal.text_as_uuid(g.id) from unnest(p_groups) as g (id)))
$$;
comment on function rollcall_internal.built_in_participants_in is
  'Participants of some conversations in the built-in table.';

create function rollcall_internal.built_in_conversation_id_kind() returns setof text
  language sql stable security invoker rows 1
as $$
  select 'uuid'
$$;
comment on function rollcall_internal.built_in_conversation_id_kind is 'The type of IDs of built-in conversations.';

-- Tables in use -------------------------------------------------------------------------------------------------------

-- The functions that everything else calls. As created here they read the built-in tables;
-- rollcall_internal.write_relation_functions replaces the body. Invoker, as above.

create function rollcall_internal.contacts_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_contacts_of($1) $$;
comment on function rollcall_internal.contacts_of is 'Accepted contacts of a user.';

create function rollcall_internal.blocked_with(p_user uuid) returns setof uuid
  language sql stable security invoker rows 10
as $$ select * from rollcall_internal.built_in_blocked_with($1) $$;
comment on function rollcall_internal.blocked_with is 'Users on the other side of a block, in either direction.';

create function rollcall_internal.blocks_between(p_one uuid, p_other uuid) returns setof boolean
  language sql stable security invoker rows 1
as $$ select * from rollcall_internal.built_in_blocks_between($1, $2) $$;
comment on function rollcall_internal.blocks_between is 'One row per block between two users.';

create function rollcall_internal.team_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_team_mates_of($1) $$;
comment on function rollcall_internal.team_mates_of is 'Members of the teams of a user, the user included.';

create function rollcall_internal.team_members_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_team_members_in($1) $$;
comment on function rollcall_internal.team_members_in is 'Members of some teams.';

create function rollcall_internal.conversations_of(p_user uuid) returns setof text
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_conversations_of($1) $$;
comment on function rollcall_internal.conversations_of is 'IDs of the conversations of a user.';

create function rollcall_internal.conversation_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_conversation_mates_of($1) $$;
comment on function rollcall_internal.conversation_mates_of is
  'Participants of the conversations of a user, the user included.';

create function rollcall_internal.participants_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_participants_in($1) $$;
comment on function rollcall_internal.participants_in is 'Participants of some conversations.';

create function rollcall_internal.conversation_id_kind() returns setof text
  language sql stable security invoker rows 1
as $$ select * from rollcall_internal.built_in_conversation_id_kind() $$;
comment on function rollcall_internal.conversation_id_kind is 'Type of IDs of conversations: uuid, bigint or text.';

-- The one spelling of an ID that typing_indicators stores: UUIDs in lower case with hyphens, integers without leading
-- zeros, other text as it is.
-- Definer: reads which table is used, from a schema that API roles may not use.
create function rollcall.conversation_key(p_id text) returns text
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_kind constant text := (select k from rollcall_internal.conversation_id_kind() k);
  v_key constant text := case v_kind
    when 'uuid' then rollcall_internal.text_as_uuid(p_id)::text
    when 'bigint' then rollcall_internal.text_as_bigint(p_id)::text
    else case when char_length(p_id) between 1 and 255 and p_id !~ '[[:cntrl:]]' then p_id end
  end;
begin
  if v_key is null then
    raise exception 'conversation_id: must be %', case v_kind when 'uuid' then 'a UUID' when 'bigint' then 'an integer'
      else 'text of 1 to 255 characters without control characters' end using errcode = 'invalid_text_representation';
  end if;
  return v_key;
end
$$;
comment on function rollcall.conversation_key is
  'The stored form of a conversation ID; raises 22P02 for an invalid one.';
grant execute on function rollcall.conversation_key to authenticated, service_role;

-- Definer: reads the participants of all conversations without their policies. Answers for auth.uid() only. PL/pgSQL,
-- because the body of an SQL function is planned again in every statement that calls it.
create function rollcall.my_conversation_ids() returns setof text
  language plpgsql stable security definer set search_path = '' rows 100
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query select c.id from rollcall_internal.conversations_of(v_me) as c (id);
end
$$;
comment on function rollcall.my_conversation_ids is
  'IDs of the conversations that the caller takes part in, from the table in use.';
grant execute on function rollcall.my_conversation_ids to authenticated, service_role;

-- Following changes ---------------------------------------------------------------------------------------------------

-- Argument: the relation. Compares the rows of one statement as multisets of the followed columns, so that a change of
-- another column, such as the time of the last visit, invalidates nothing. An error here must not fail the
-- application's statement: everything is invalidated instead.
-- Definer: see invalidate_visibility. Column names come from own_tables, which only use_table writes.
create function rollcall_internal.on_own_table_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_own rollcall_internal.own_tables;
  v_columns text;
  v_rows text;
  v_ids uuid[];
  v_groups text[];
  v_others uuid[];
begin
  select o.* into v_own from rollcall_internal.own_tables o where o.relation = tg_argv[0];
  if not found then
    return null;
  end if;
  -- The user first, then the other user or the group, then what the condition reads.
  v_columns := format('%I::text as a, %I::text as b', v_own.user_column,
    coalesce(v_own.other_column, v_own.group_column))
    || (select coalesce(string_agg(format(', %I::text as c%s', f.name, f.place), '' order by f.place), '')
        from unnest(v_own.followed_columns) with ordinality as f (name, place));
  v_rows := case tg_op
    when 'INSERT' then format('select %s from new_rows', v_columns)
    when 'DELETE' then format('select %s from old_rows', v_columns)
    else format('(select %1$s from new_rows except all select %1$s from old_rows) union all '
      '(select %1$s from old_rows except all select %1$s from new_rows)', v_columns) end;
  if v_own.group_column is null then
    execute format('select array(select distinct rollcall_internal.text_as_uuid(side.id) from (%s) changed '
      'cross join lateral (values (changed.a), (changed.b)) side (id) '
      'where rollcall_internal.text_as_uuid(side.id) is not null)', v_rows) into v_ids;
    if cardinality(v_ids) > 0 then
      perform rollcall_internal.note_visibility_change(v_ids, v_ids, v_own.source::text);
    end if;
    return null;
  end if;
  execute format('select array_agg(distinct rollcall_internal.text_as_uuid(changed.a)) filter '
    '(where rollcall_internal.text_as_uuid(changed.a) is not null), array_agg(distinct changed.b) from (%s) changed',
    v_rows) into v_ids, v_groups;
  if cardinality(v_ids) > 0 then
    v_others := array(
      select distinct m.id from rollcall_internal.team_members_in(v_groups) as m (id)
        where v_own.relation = 'team_members' and m.id is not null
      union
      select distinct m.id from rollcall_internal.participants_in(v_groups) as m (id)
        where v_own.relation = 'participants' and m.id is not null
      union
      select i.id from unnest(v_ids) as i (id));
    perform rollcall_internal.note_visibility_change(v_others, v_ids, v_own.source::text);
    if cardinality(v_others) > cardinality(v_ids) then
      perform rollcall_internal.note_visibility_change(v_ids, v_others, v_own.source::text);
    end if;
  end if;
  return null;
exception when others then
  raise warning 'Rollcall cannot follow %: %', tg_relid::regclass, sqlerrm
    using hint = 'Declare the table again with rollcall.use_table.';
  perform rollcall_internal.note_visibility_change(null, null, tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_own_table_changed is
  'Trigger function: changed rows of a table in use invalidate visibility between the users that they concern.';

-- On the table, and on its partitions and children, because a statement on one of these does not fire the triggers of
-- its parent. Existing triggers stay as they are.
-- Invoker: called by definer functions only.
create function rollcall_internal.follow_own_table(p_relation text, p_source regclass) returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    with recursive part (id) as (
      select p_source::oid
      union
      select i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.id
    )
    select part.id::regclass as source, format('rollcall_follow_%s_%s', p_relation, o.verb) as name, o.verb,
      o.transitions, o.action
    from part
    cross join (values
      ('insert', 'referencing new table as new_rows', 'on_own_table_changed'),
      ('update', 'referencing old table as old_rows new table as new_rows', 'on_own_table_changed'),
      ('delete', 'referencing old table as old_rows', 'on_own_table_changed'),
      ('truncate', '', 'on_truncated')
    ) as o (verb, transitions, action)
    where not exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = part.id and t.tgname = format('rollcall_follow_%s_%s', p_relation, o.verb))
    order by part.id, o.verb
  loop
    execute format('create trigger %I after %s on %s %s for each statement execute function rollcall_internal.%I(%L)',
      v_trigger.name, v_trigger.verb, v_trigger.source, v_trigger.transitions, v_trigger.action, p_relation);
  end loop;
end
$$;
comment on function rollcall_internal.follow_own_table is
  'Creates the triggers on a table that a relation is read from.';

-- Invoker: called by definer functions only.
create function rollcall_internal.unfollow_own_tables(p_relation text) returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgrelid::regclass as source, t.tgname as name
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'rollcall_internal'::regnamespace
    where not t.tgisinternal
      and t.tgname in (select format('rollcall_follow_%s_%s', p_relation, o.verb)
        from unnest(array['insert', 'update', 'delete', 'truncate']) as o (verb))
  loop
    execute format('drop trigger %I on %s', v_trigger.name, v_trigger.source);
  end loop;
end
$$;
comment on function rollcall_internal.unfollow_own_tables is
  'Drops the triggers of a relation on the application''s tables.';

-- Generated functions -------------------------------------------------------------------------------------------------

-- The name is qualified, because search_path is empty.
-- Invoker: reads catalogs only.
create function rollcall_internal.own_table_shape(p_source regclass, p_columns name[]) returns text
  language sql stable security invoker set search_path = ''
as $$
  select p_source::text || ' ' || string_agg(format('%I %s', c.name, pg_catalog.format_type(a.atttypid, null)), ', '
    order by c.place)
  from unnest(p_columns) with ordinality as c (name, place)
  left join pg_catalog.pg_attribute a on a.attrelid = p_source and a.attname = c.name and not a.attisdropped
  where c.name is not null
$$;
comment on function rollcall_internal.own_table_shape is 'Name of a table and types of some of its columns.';

-- A domain counts as its base type; smallint and integer count as bigint; null is a type that cannot be a key.
-- Invoker: reads catalogs only.
create function rollcall_internal.key_kind(p_source regclass, p_column name) returns text
  language sql stable security invoker set search_path = ''
as $$
  select case
    when t.oid = 'uuid'::regtype then 'uuid'
    when t.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'bigint'
    when t.typcategory = 'S' then 'text'
  end
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = rollcall_internal.base_type(a.atttypid)
  where a.attrelid = p_source and a.attname = p_column and a.attnum > 0 and not a.attisdropped
$$;
comment on function rollcall_internal.key_kind is 'Kind of a key column: uuid, bigint or text.';

-- Invoker: computes from its argument.
create function rollcall_internal.functions_of_relation(p_relation text) returns setof text
  language sql immutable security invoker set search_path = ''
as $$
  select unnest(case p_relation
    when 'contacts' then array['contacts_of']
    when 'blocks' then array['blocked_with', 'blocks_between']
    when 'team_members' then array['team_mates_of', 'team_members_in']
    when 'participants' then array['conversations_of', 'conversation_mates_of', 'participants_in',
      'conversation_id_kind']
  end)
$$;
comment on function rollcall_internal.functions_of_relation is 'Names of the functions that read a relation.';

-- Bodies over the application's table. %1$s is its definition; mine and theirs of a group are joined by the raw column,
-- so that its index is used.
-- Invoker: computes from a row.
create function rollcall_internal.own_relation_queries(p_own rollcall_internal.own_tables)
  returns table (function_name text, query text)
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_source constant text := format('(%s)', p_own.definition);
  v_user constant text := rollcall_internal.key_kind(p_own.source, p_own.user_column);
  v_group constant text := rollcall_internal.key_kind(p_own.source, p_own.group_column);
  -- A parameter as the user or other column compares with it, and such a column as UUID.
  v_is constant text := case v_user when 'uuid' then '%s.%s::uuid = %s' else '%s.%s::text = %s::text' end;
  v_get constant text := case v_user when 'uuid' then '%s.%s::uuid'
    else 'rollcall_internal.text_as_uuid(%s.%s::text)' end;
  v_groups constant text := case v_group
    when 'uuid' then 'array(select rollcall_internal.text_as_uuid(g.id) from unnest(p_groups) as g (id))'
    when 'bigint' then 'array(select rollcall_internal.text_as_bigint(g.id) from unnest(p_groups) as g (id))'
    else 'p_groups' end;
  v_group_key constant text := case v_group when 'text' then 'r.group_key::text' else 'r.group_key' end;
  v_pairs text;
  v_mates text;
  v_members text;
begin
  v_pairs := format('select %s from %s r where %s union all select %s from %s r where %s',
    format(v_get, 'r', 'other_key'), v_source, format(v_is, 'r', 'user_key', 'p_user'),
    format(v_get, 'r', 'user_key'), v_source, format(v_is, 'r', 'other_key', 'p_user'));
  v_mates := format('select %s from %s mine join %s theirs on theirs.group_key = mine.group_key where %s',
    format(v_get, 'theirs', 'user_key'), v_source, v_source, format(v_is, 'mine', 'user_key', 'p_user'));
  v_members := format('select %s from %s r where %s = any (%s)', format(v_get, 'r', 'user_key'), v_source, v_group_key,
    v_groups);
  return query
    select q.name, q.query
    from (values
      ('contacts_of', v_pairs),
      ('blocked_with', v_pairs),
      ('blocks_between',
        format('select true from %s r where %s and %s union all select true from %s r where %s and %s',
          v_source, format(v_is, 'r', 'user_key', 'p_one'), format(v_is, 'r', 'other_key', 'p_other'),
          v_source, format(v_is, 'r', 'user_key', 'p_other'), format(v_is, 'r', 'other_key', 'p_one'))),
      ('team_mates_of', v_mates),
      ('team_members_in', v_members),
      ('conversations_of',
        format('select r.group_key::text from %s r where %s', v_source, format(v_is, 'r', 'user_key', 'p_user'))),
      ('conversation_mates_of', v_mates),
      ('participants_in', v_members),
      ('conversation_id_kind', format('select %L::text', v_group))
    ) as q (name, query)
    where q.name in (select f from rollcall_internal.functions_of_relation(p_own.relation) f);
end
$$;
comment on function rollcall_internal.own_relation_queries is
  'The queries of a relation''s functions over a table of the application.';

-- With the application's table a function is PL/pgSQL: it reads the built-in table once that table is dropped, and the
-- condition runs with the search_path under which it was declared.
-- Definer: the functions belong to the owner of Rollcall.
create function rollcall_internal.write_relation_functions(p_relation text) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_own rollcall_internal.own_tables;
  v_is_own boolean;
  v_function record;
  v_built_in text;
begin
  select o.* into v_own from rollcall_internal.own_tables o where o.relation = p_relation;
  v_is_own := found;
  -- The functions have the signatures and estimates of those over the built-in tables.
  for v_function in
    select n.name, q.query, pg_catalog.pg_get_function_arguments(f.oid) as arguments,
      pg_catalog.format_type(f.prorettype, null) as result, f.prorows::int as expected_rows,
      (select coalesce(string_agg(format('$%s', i), ', '), '') from generate_series(1, f.pronargs) i) as parameters
    from rollcall_internal.functions_of_relation(p_relation) as n (name)
    join pg_catalog.pg_proc f
      on f.pronamespace = 'rollcall_internal'::regnamespace and f.proname = 'built_in_' || n.name
    left join rollcall_internal.own_relation_queries(v_own) q on v_is_own and q.function_name = n.name
  loop
    v_built_in := format('select * from rollcall_internal.built_in_%s(%s)', v_function.name, v_function.parameters);
    execute format('create or replace function rollcall_internal.%I(%s) returns setof %s '
        'language %s stable security invoker rows %s %s as %L',
      v_function.name, v_function.arguments, v_function.result, case when v_is_own then 'plpgsql' else 'sql' end,
      v_function.expected_rows,
      case when v_own.condition is not null then 'set search_path = ' || v_own.search_path else '' end,
      case when v_is_own then format(e'\n#variable_conflict use_column\nbegin\n'
          '  if exists (select from rollcall_internal.own_tables o join pg_catalog.pg_class c on c.oid = o.source\n'
          '    where o.relation = %L)\n  then\n    return query %s;\n  else\n    return query %s;\n  end if;\nend\n',
          p_relation, v_function.query, v_built_in)
        else format(' %s ', v_built_in) end);
  end loop;
end
$$;
comment on function rollcall_internal.write_relation_functions is
  'Replaces the functions of a relation: over the table of the application in own_tables, else over the built-in one.';

-- Declaring tables ----------------------------------------------------------------------------------------------------

-- The query behind the functions, with all names qualified: PostgreSQL parses the condition under the caller's
-- search_path and prints it under an empty one. Also the columns that it reads and the other tables.
-- Invoker and without a search_path of its own: called by use_table only, which has checked it.
create function rollcall_internal.define_own_table(p_own rollcall_internal.own_tables, out definition text,
  out followed_columns name[], out other_tables regclass[])
  language plpgsql volatile security invoker
as $$
declare
  v_path constant text := pg_catalog.current_setting('search_path');
  v_source text;
begin
  perform pg_catalog.set_config('search_path', '', true);
  v_source := p_own.source::text;
  perform pg_catalog.set_config('search_path', v_path, true);
  begin
    execute pg_catalog.format('create view rollcall_internal.own_source as select %I as %I, %I as %I from %s%s',
      case when p_own.group_column is null then p_own.user_column else p_own.group_column end,
      case when p_own.group_column is null then 'user_key' else 'group_key' end,
      case when p_own.group_column is null then p_own.other_column else p_own.user_column end,
      case when p_own.group_column is null then 'other_key' else 'user_key' end,
      v_source, pg_catalog.format(case when p_own.condition is not null then ' where (%s)' else '' end,
        p_own.condition));
  exception when syntax_error or undefined_column or undefined_function or undefined_table or undefined_object
    or datatype_mismatch or ambiguous_column or ambiguous_function or grouping_error or windowing_error
    or feature_not_supported or wrong_object_type or invalid_text_representation or cannot_coerce
  then
    raise exception 'condition: %', sqlerrm using errcode = 'invalid_parameter_value',
      hint = 'The condition is an SQL expression over the columns of the table that gives true or false.';
  end;
  perform pg_catalog.set_config('search_path', '', true);
  definition := pg_catalog.rtrim(pg_catalog.pg_get_viewdef('rollcall_internal.own_source'::pg_catalog.regclass), ';');
  select pg_catalog.array_agg(distinct a.attname) filter (where d.refobjid = p_own.source),
    pg_catalog.array_agg(distinct c.oid::pg_catalog.regclass) filter (where d.refobjid <> p_own.source)
  into followed_columns, other_tables
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
    and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> r.ev_class
  join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
  left join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid and a.attnum > 0
  where r.ev_class = 'rollcall_internal.own_source'::pg_catalog.regclass;
  drop view rollcall_internal.own_source;
  perform pg_catalog.set_config('search_path', v_path, true);
end
$$;
comment on function rollcall_internal.define_own_table is
  'Parses the declaration of a table: its query, the columns that it reads, and other tables in its condition.';

-- Invoker: computes from its argument.
create function rollcall_internal.check_relation(p_relation text) returns void
  language plpgsql immutable security invoker set search_path = ''
as $$
begin
  if not exists (select from rollcall_internal.functions_of_relation(p_relation)) then
    raise exception 'relation: must be one of contacts, blocks, team_members, participants (got %)',
      coalesce(quote_literal(p_relation), 'null') using errcode = 'invalid_parameter_value';
  end if;
end
$$;
comment on function rollcall_internal.check_relation is 'Raises an error for a relation that does not exist.';

-- Everything that can be wrong with a declaration, in the order in which a caller mends it.
-- Invoker: called by use_table only, as the owner of Rollcall.
-- Over 60 lines: one refusal after the other, each with its message.
create function rollcall_internal.check_own_table(p_own rollcall_internal.own_tables) returns void
  language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_kind "char" := (select c.relkind from pg_catalog.pg_class c where c.oid = p_own.source);
  v_schema constant text := (select n.nspname from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = p_own.source);
  v_owner constant name := (select pg_catalog.pg_get_userbyid(c.relowner) from pg_catalog.pg_class c
    where c.oid = p_own.source);
  v_grouped constant boolean := p_own.relation in ('team_members', 'participants');
  v_column record;
begin
  perform rollcall_internal.check_relation(p_own.relation);
  if p_own.source is null or v_kind is null then
    raise exception 'source: must be a table' using errcode = 'invalid_parameter_value';
  end if;
  if v_schema in ('rollcall', 'rollcall_internal', 'pg_catalog', 'information_schema') or v_schema like 'pg\_%' then
    raise exception 'source: % is not a table of the application', p_own.source
      using errcode = 'wrong_object_type', hint = format('For the built-in table: select rollcall.use_built_in(%L);',
        p_own.relation);
  end if;
  if v_kind not in ('r', 'p') then
    raise exception 'source: % must be a table, because changes of it are followed by triggers', p_own.source
      using errcode = 'wrong_object_type', hint = 'Name the table behind the view, and give its filter as condition.';
  end if;
  for v_column in
    select * from (values
      ('user_column', p_own.user_column, true), ('other_column', p_own.other_column, not v_grouped),
      ('group_column', p_own.group_column, v_grouped)
    ) as c (parameter, name, wanted)
  loop
    if v_column.wanted and v_column.name is null then
      raise exception '%: is required for %', v_column.parameter, p_own.relation
        using errcode = 'invalid_parameter_value';
    elsif not v_column.wanted and v_column.name is not null then
      raise exception '%: does not apply to %', v_column.parameter, p_own.relation
        using errcode = 'invalid_parameter_value';
    elsif v_column.name is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_own.source and a.attname = v_column.name and a.attnum > 0 and not a.attisdropped)
    then
      raise exception '%: % has no column %', v_column.parameter, p_own.source, quote_ident(v_column.name)
        using errcode = 'undefined_column';
    elsif v_column.name is not null and coalesce(rollcall_internal.key_kind(p_own.source, v_column.name), '')
      <> all (case when v_column.parameter = 'group_column' then array['uuid', 'bigint', 'text']
        else array['uuid', 'text'] end)
    then
      raise exception '%: % of % must be %', v_column.parameter, quote_ident(v_column.name), p_own.source,
        case when v_column.parameter = 'group_column' then 'of type uuid, bigint or text'
          else 'of type uuid, or text that holds UUIDs' end
        using errcode = 'datatype_mismatch';
    end if;
  end loop;
  if p_own.user_column = coalesce(p_own.other_column, p_own.group_column) then
    raise exception 'user_column: must differ from the other column' using errcode = 'invalid_parameter_value';
  end if;
  if not pg_catalog.has_table_privilege(p_own.source, 'select')
    or not pg_catalog.has_table_privilege(p_own.source, 'trigger')
  then
    raise exception 'source: role % may not read % and create triggers on it', current_user, p_own.source
      using errcode = 'insufficient_privilege', hint = format('As its owner run: grant select, trigger on %s to %I;',
        p_own.source, current_user);
  end if;
  -- Rows that policies hide from the owner of Rollcall would be missing in silence.
  if pg_catalog.row_security_active(p_own.source) and not exists (
    select from pg_catalog.pg_policy p
    where p.polrelid = p_own.source and p.polpermissive and p.polcmd in ('r', '*')
      and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
      and exists (select from unnest(p.polroles) as r (id)
        where case when r.id = 0 then true else pg_catalog.pg_has_role(current_user, r.id, 'usage') end))
  then
    raise exception 'source: row-level security of % hides rows from role %', p_own.source, current_user
      using errcode = 'insufficient_privilege', hint = format('Run: grant %I to %I; or: create policy '
        '"Rollcall reads all rows" on %s for select to %2$I using (true);', v_owner, current_user, p_own.source);
  end if;
end
$$;
comment on function rollcall_internal.check_own_table is 'Raises an error for a declaration that cannot be used.';

-- Invoker: reads catalogs only.
create function rollcall_internal.unindexed_columns(p_own rollcall_internal.own_tables) returns setof name
  language sql stable security invoker set search_path = ''
as $$
  select c.name
  from unnest(array[p_own.user_column, p_own.other_column, p_own.group_column]) as c (name)
  join pg_catalog.pg_attribute a on a.attrelid = p_own.source and a.attname = c.name
  where not exists (
    select from pg_catalog.pg_index i where i.indrelid = p_own.source and i.indisvalid and i.indkey[0] = a.attnum)
$$;
comment on function rollcall_internal.unindexed_columns is 'Key columns of a table in use that no index begins with.';

-- Contacts and blocks: user_column and other_column, in either direction for contacts; blocks hide both sides.
-- Team members and participants: group_column and user_column. A later declaration of a relation replaces it.
-- Definer: it creates functions in rollcall_internal. Only the owner of Rollcall and superusers may call it: the
-- condition runs with the rights of the owner.
-- Without a search_path of its own: the condition is parsed under the caller's. check_search_path protects it.
create function rollcall.use_table(relation text, source regclass, user_column name default null,
  other_column name default null, group_column name default null, condition text default null) returns void
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_own rollcall_internal.own_tables;
  v_path constant text := pg_catalog.current_setting('search_path');
  v_defined record;
  v_name text;
begin
  perform rollcall_internal.check_search_path();
  v_own.relation := use_table.relation;
  v_own.source := use_table.source;
  v_own.user_column := use_table.user_column;
  v_own.other_column := use_table.other_column;
  v_own.group_column := use_table.group_column;
  v_own.condition := nullif(pg_catalog.btrim(use_table.condition), '');
  perform rollcall_internal.check_own_table(v_own);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rollcall.own_tables', 0));
  v_defined := rollcall_internal.define_own_table(v_own);
  perform rollcall_internal.replace_own_table(v_own, v_path, v_defined.definition, v_defined.followed_columns);
  foreach v_name in array coalesce(v_defined.other_tables::text[], '{}'::text[]) loop
    perform rollcall.watch_table(v_name::pg_catalog.regclass);
  end loop;
  for v_name in select c from rollcall_internal.unindexed_columns(v_own) c loop
    raise notice 'no index of % begins with the column %: each look-up reads the whole table', v_own.source,
      pg_catalog.quote_ident(v_name)
      using hint = pg_catalog.format('create index on %s (%I);', v_own.source, v_name);
  end loop;
end
$$;
comment on function rollcall.use_table is
  'Reads contacts, blocks, team members or participants from a table of the application instead of the built-in one.';

-- Invoker: called by definer functions only.
create function rollcall_internal.replace_own_table(p_own rollcall_internal.own_tables, p_path text, p_definition text,
  p_followed name[]) returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
begin
  insert into rollcall_internal.own_tables as o (relation, source, user_column, other_column, group_column, condition,
      search_path, shape, definition, followed_columns)
    values (p_own.relation, p_own.source, p_own.user_column, p_own.other_column, p_own.group_column, p_own.condition,
      coalesce(nullif(p_path, ''), ''''''),
      rollcall_internal.own_table_shape(p_own.source,
        array[p_own.user_column, p_own.other_column, p_own.group_column]), p_definition, p_followed)
    on conflict (relation) do update set
      source = excluded.source, user_column = excluded.user_column, other_column = excluded.other_column,
      group_column = excluded.group_column, condition = excluded.condition, search_path = excluded.search_path,
      shape = excluded.shape, definition = excluded.definition, followed_columns = excluded.followed_columns,
      used_since = excluded.used_since;
  perform rollcall_internal.unfollow_own_tables(p_own.relation);
  perform rollcall_internal.follow_own_table(p_own.relation, p_own.source);
  perform rollcall_internal.write_relation_functions(p_own.relation);
  perform rollcall_internal.relation_replaced(p_own.relation);
end
$$;
comment on function rollcall_internal.replace_own_table is
  'Stores the declaration of a table and generates its triggers and functions.';

-- IDs of other conversations may have another type, so nobody types any more.
-- Invoker and without a search_path of its own: it fires triggers of users. Called by definer functions only.
create function rollcall_internal.relation_replaced(p_relation text) returns void
  language plpgsql volatile security invoker
as $$
begin
  if p_relation operator(pg_catalog.=) 'participants' then
    delete from rollcall.typing_indicators;
  end if;
  perform rollcall_internal.note_visibility_change(null, null, 'relation ' operator(pg_catalog.||) p_relation);
end
$$;
comment on function rollcall_internal.relation_replaced is 'Invalidates everything after a relation got another table.';

-- Definer: see use_table.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.use_built_in(relation text) returns boolean
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_found boolean;
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.check_relation(use_built_in.relation);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rollcall.own_tables', 0));
  delete from rollcall_internal.own_tables o where o.relation = use_built_in.relation;
  v_found := found;
  if v_found then
    perform rollcall_internal.unfollow_own_tables(use_built_in.relation);
    perform rollcall_internal.write_relation_functions(use_built_in.relation);
    perform rollcall_internal.relation_replaced(use_built_in.relation);
  end if;
  return v_found;
end
$$;
comment on function rollcall.use_built_in is
  'Reads a relation from its built-in table again; whether another one was in use.';

-- After DDL: forgets dropped tables, follows new partitions, and generates the functions again for a table that was
-- renamed or whose key columns have other types. What cannot be repaired stays as it is: then look-ups raise an error,
-- which shows nobody, and doctor reports it.
-- Definer: runs for any role that issues DDL.
-- Without a search_path of its own: conditions are parsed under the one that they were declared with.
create function rollcall_internal.refresh_own_tables() returns void
  language plpgsql volatile security definer
as $$
declare
  v_own rollcall_internal.own_tables;
  v_defined record;
  v_path constant text := pg_catalog.current_setting('search_path');
begin
  perform rollcall_internal.check_search_path();
  for v_own in select o.* from rollcall_internal.own_tables o order by o.relation loop
    begin
      if not exists (select from pg_catalog.pg_class c where c.oid = v_own.source) then
        perform rollcall.use_built_in(v_own.relation);
      elsif v_own.shape <> rollcall_internal.own_table_shape(v_own.source,
        array[v_own.user_column, v_own.other_column, v_own.group_column])
      then
        perform pg_catalog.set_config('search_path', v_own.search_path, true);
        v_defined := rollcall_internal.define_own_table(v_own);
        perform pg_catalog.set_config('search_path', v_path, true);
        perform rollcall_internal.replace_own_table(v_own, v_own.search_path, v_defined.definition,
          v_defined.followed_columns);
      else
        perform rollcall_internal.follow_own_table(v_own.relation, v_own.source);
      end if;
    exception when others then
      perform pg_catalog.set_config('search_path', v_path, true);
      raise warning 'Rollcall cannot read % from %: %', v_own.relation, v_own.source, sqlerrm
        using hint = 'Declare the table again with rollcall.use_table, or run rollcall.use_built_in.';
    end;
  end loop;
end
$$;
comment on function rollcall_internal.refresh_own_tables is 'Adapts to tables in use that were dropped or altered.';

-- Explaining ----------------------------------------------------------------------------------------------------------

-- The row of the application's table that names both users, whether or not the condition holds for it.
-- Definer: reads rows of all users. For explanations only.
create function rollcall_internal.own_evidence(p_relation text, p_viewer uuid, p_subject uuid) returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_own rollcall_internal.own_tables;
  v_row jsonb;
begin
  select o.* into v_own from rollcall_internal.own_tables o
    join pg_catalog.pg_class c on c.oid = o.source where o.relation = p_relation;
  if not found then
    return null;
  end if;
  if v_own.group_column is null then
    execute format('select to_jsonb(t) from %1$s t where t.%2$I::text = $1 and t.%3$I::text = $2
        union all select to_jsonb(t) from %1$s t where t.%2$I::text = $2 and t.%3$I::text = $1 limit 1',
      v_own.source, v_own.user_column, v_own.other_column) into v_row using p_viewer::text, p_subject::text;
  else
    execute format('select to_jsonb(theirs) from %1$s mine join %1$s theirs on theirs.%2$I = mine.%2$I
        where mine.%3$I::text = $1 and theirs.%3$I::text = $2 limit 1',
      v_own.source, v_own.group_column, v_own.user_column) into v_row using p_viewer::text, p_subject::text;
  end if;
  return jsonb_build_object('table', v_own.source::text, 'row', v_row);
end
$$;
comment on function rollcall_internal.own_evidence is
  'Table and row by which a table of the application relates two users; null while the built-in table is used.';

-- schemas/20_presence.sql --------------------------------------------------------------------------------------------

-- The tables of presence: what devices report, what users chose, and the faces that others read. Every table has
-- row-level security; without a policy only the owner reads a row.

create type rollcall.presence_status as enum ('online', 'away', 'busy', 'dnd', 'invisible', 'offline');
create type rollcall.presence_reach as enum ('online', 'away', 'offline');
create type rollcall.presence_face as enum ('public', 'trusted');
create type rollcall.presence_visibility as enum ('nobody', 'team', 'contacts', 'everyone');

-- Nodes ---------------------------------------------------------------------------------------------------------------

-- No foreign keys to auth.users anywhere: tokens may come from an issuer that keeps its accounts elsewhere.
create table rollcall.presence_nodes (
  id uuid primary key,
  started_at timestamptz not null default now(),
  renewed_at timestamptz not null default now(),
  lease_expires_at timestamptz not null
);
comment on table rollcall.presence_nodes is
  'Servers that hold sockets. The lease of a node stands for the liveness of all its devices.';
-- No policies for users: only servers and service_role need nodes.
alter table rollcall.presence_nodes enable row level security;
create policy "service_role has full access" on rollcall.presence_nodes
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_nodes from anon, authenticated, service_role;
grant all on rollcall.presence_nodes to service_role;

-- Definer: only the server reads nodes. A random id of a node reveals nothing.
create function rollcall.any_node_lives(p_nodes uuid[]) returns boolean
  language sql stable security definer set search_path = ''
as $$
  select exists (
    select from rollcall.presence_nodes n where n.id = any (p_nodes) and n.lease_expires_at > clock_timestamp()
  )
$$;
comment on function rollcall.any_node_lives is 'Whether one of these nodes holds a lease.';
grant execute on function rollcall.any_node_lives to authenticated, service_role;

-- Devices -------------------------------------------------------------------------------------------------------------

create table rollcall.presence_devices (
  user_id uuid not null,
  device_id text not null constraint presence_devices_device_id_length check (char_length(device_id) between 1 and 255),
  device_name text constraint presence_devices_device_name_length check (char_length(device_name) <= 255),
  device_type text constraint presence_devices_device_type_length check (char_length(device_type) <= 64),
  platform text constraint presence_devices_platform_length check (char_length(platform) <= 64),
  app_version text constraint presence_devices_app_version_length check (char_length(app_version) <= 64),
  status rollcall.presence_status not null default 'online'
    constraint presence_devices_status_is_of_a_device check (status in ('online', 'away', 'offline')),
  activity text constraint presence_devices_activity_length check (char_length(activity) <= 255),
  current_page text constraint presence_devices_current_page_length check (char_length(current_page) <= 2048),
  nodes uuid[] not null default '{}',
  session_started_at timestamptz not null default now(),
  last_heartbeat_at timestamptz not null default now(),
  last_active_at timestamptz not null default now(),
  idle_since timestamptz,
  signed_off_at timestamptz,
  background_seconds int
    constraint presence_devices_background_seconds_range check (background_seconds between 1 and 86400),
  live boolean not null generated always as (status <> 'offline') stored,
  active_conversation_id uuid,
  visible_conversation_ids uuid[] not null default '{}'
    constraint presence_devices_visible_conversations_count check (cardinality(visible_conversation_ids) <= 100),
  active_notebook_id uuid,
  active_persona_id uuid,
  last_navigation_path text
    constraint presence_devices_last_navigation_path_length check (char_length(last_navigation_path) <= 2048),
  navigation_history jsonb not null default '[]'
    constraint presence_devices_navigation_history_size
      check (jsonb_typeof(navigation_history) = 'array' and jsonb_array_length(navigation_history) <= 10),
  local_time text
    constraint presence_devices_local_time_length check (char_length(local_time) <= 64),
  context_updated_at timestamptz,
  context_version bigint,
  predicted_topic_ids uuid[] not null default '{}',
  predicted_entity_ids uuid[] not null default '{}',
  constraint presence_devices_pkey primary key (user_id, device_id)
-- Leaves space for heap-only updates: heartbeats update no indexed column.
) with (fillfactor = 80);
comment on table rollcall.presence_devices is
  'What each device of a user reports. A device is live unless it is offline.';
comment on column rollcall.presence_devices.nodes is
  'The nodes that hold a socket of this device; empty for a device that lives on heartbeats.';
comment on column rollcall.presence_devices.last_heartbeat_at is
  'The last moment at which the device is known to have been live.';
comment on column rollcall.presence_devices.signed_off_at is
  'Set when the client itself reported offline: a late heartbeat does not bring the device back.';
comment on column rollcall.presence_devices.background_seconds is
  'The device is in the background: without a socket it stays away for this time after it was last live. Null: it is '
  'not.';
comment on column rollcall.presence_devices.live is 'Whether the device is not offline.';
comment on column rollcall.presence_devices.visible_conversation_ids is
  'The conversations in view, for example in a sidebar; at most 100.';
comment on column rollcall.presence_devices.navigation_history is
  'The last ten paths in the application, oldest first: [{"path", "at"}]. Set by a trigger.';
comment on column rollcall.presence_devices.local_time is
  'The local time of the user as the device wrote it: 14:30, or with date and offset.';
comment on column rollcall.presence_devices.context_updated_at is
  'When a context signal last changed. Set by a trigger.';
comment on column rollcall.presence_devices.context_version is
  'Increases with every change of a context signal: the microsecond of the change. Set by a trigger.';
comment on column rollcall.presence_devices.predicted_topic_ids is
  'The topics that the last warm-up expected. Written by the server.';
comment on column rollcall.presence_devices.predicted_entity_ids is
  'The entities that the last warm-up expected. Written by the server.';
-- The sweep reads live devices only, a small part of an old database. On `live` instead of `status`: an update is
-- heap-only as long as no indexed column, predicates included, changes, and online to away is frequent.
create index presence_devices_live on rollcall.presence_devices (user_id) where live;
create index presence_devices_on_nodes on rollcall.presence_devices (user_id) where nodes <> '{}';
alter table rollcall.presence_devices enable row level security;
create policy "own devices" on rollcall.presence_devices
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_devices
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_devices from anon, authenticated, service_role;
grant select, delete on rollcall.presence_devices to authenticated;
grant insert (user_id, device_id, device_name, device_type, platform, app_version, status, activity, current_page,
    background_seconds),
  update (device_name, device_type, platform, app_version, status, activity, current_page, background_seconds)
  on rollcall.presence_devices to authenticated;
grant all on rollcall.presence_devices to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_devices', 'user_id', true, 10, null);

grant insert (active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time),
  update (active_conversation_id, visible_conversation_ids, active_notebook_id, active_persona_id,
    last_navigation_path, local_time)
  on rollcall.presence_devices to authenticated;

-- Choices -------------------------------------------------------------------------------------------------------------

create table rollcall.presence_choices (
  user_id uuid primary key,
  chosen rollcall.presence_status
    constraint presence_choices_chosen_is_a_choice check (chosen in ('busy', 'dnd', 'invisible')),
  last_seen_when_hidden timestamptz,
  custom_status text constraint presence_choices_custom_status_length check (char_length(custom_status) <= 140),
  custom_status_expires_at timestamptz,
  updated_at timestamptz not null default now()
) with (fillfactor = 80);
comment on table rollcall.presence_choices is
  'What a user chose for all devices: busy, dnd or invisible, and the custom status.';
comment on column rollcall.presence_choices.last_seen_when_hidden is
  'What others read as last_seen while the user is invisible.';
create index presence_choices_expiring on rollcall.presence_choices (custom_status_expires_at)
  where custom_status_expires_at is not null;
alter table rollcall.presence_choices enable row level security;
create policy "own choices" on rollcall.presence_choices
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_choices
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_choices from anon, authenticated, service_role;
grant select, delete on rollcall.presence_choices to authenticated;
grant insert (user_id, chosen, custom_status, custom_status_expires_at),
  update (chosen, custom_status, custom_status_expires_at)
  on rollcall.presence_choices to authenticated;
grant all on rollcall.presence_choices to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_choices', 'user_id', true, 20, null);

create trigger invalidate_after_insert after insert on rollcall.presence_choices
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_choices_changed();
create trigger invalidate_after_update after update on rollcall.presence_choices
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_choices_changed();
create trigger invalidate_after_delete after delete on rollcall.presence_choices
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_choices_changed();
create trigger invalidate_after_truncate after truncate on rollcall.presence_choices
  for each statement execute function rollcall_internal.on_truncated();

create table rollcall.user_last_seen (
  user_id uuid primary key,
  last_seen timestamptz
) with (fillfactor = 80);
comment on table rollcall.user_last_seen is
  'The last moment at which any device was live; for a live user, to the minute. Its row is also the lock that orders '
  'the changes of one user. To erase a user, delete it after the devices.';
alter table rollcall.user_last_seen enable row level security;
create policy "own last seen" on rollcall.user_last_seen
  for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.user_last_seen
  for all to service_role using (true) with check (true);
revoke all on rollcall.user_last_seen from anon, authenticated, service_role;
grant select on rollcall.user_last_seen to authenticated;
grant all on rollcall.user_last_seen to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.user_last_seen', 'user_id', true, 60, null);

-- Settings ------------------------------------------------------------------------------------------------------------

create table rollcall.presence_settings (
  user_id uuid primary key,
  visibility rollcall.presence_visibility not null default 'contacts',
  show_last_seen boolean not null default true,
  show_activity boolean not null default true,
  show_custom_status boolean not null default true,
  show_typing boolean not null default true,
  updated_at timestamptz not null default now()
);
comment on table rollcall.presence_settings is
  'Who may see a user, and which fields they share. No row stands for the defaults.';
alter table rollcall.presence_settings enable row level security;
create policy "own settings" on rollcall.presence_settings
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_settings
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_settings from anon, authenticated, service_role;
grant select, delete on rollcall.presence_settings to authenticated;
grant insert (user_id, visibility, show_last_seen, show_activity, show_custom_status, show_typing),
  update (visibility, show_last_seen, show_activity, show_custom_status, show_typing)
  on rollcall.presence_settings to authenticated;
grant all on rollcall.presence_settings to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_settings', 'user_id', true, 30, null);

create trigger invalidate_after_insert after insert on rollcall.presence_settings
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_subjects_changed();
create trigger invalidate_after_update after update on rollcall.presence_settings
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_subjects_changed();
create trigger invalidate_after_delete after delete on rollcall.presence_settings
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_subjects_changed();
create trigger invalidate_after_truncate after truncate on rollcall.presence_settings
  for each statement execute function rollcall_internal.on_truncated();

create trigger set_updated_at before update on rollcall.presence_settings
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.presence_visibility_list (
  user_id uuid not null,
  viewer_id uuid not null,
  created_at timestamptz not null default now(),
  constraint presence_visibility_list_pkey primary key (user_id, viewer_id),
  constraint presence_visibility_list_not_oneself check (user_id <> viewer_id)
);
comment on table rollcall.presence_visibility_list is
  'Viewers that see the trusted face of a user, also while the user is invisible.';
create index presence_visibility_list_viewer_id on rollcall.presence_visibility_list (viewer_id);
alter table rollcall.presence_visibility_list enable row level security;
create policy "own visibility list" on rollcall.presence_visibility_list
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.presence_visibility_list
  for all to service_role using (true) with check (true);
revoke all on rollcall.presence_visibility_list from anon, authenticated, service_role;
grant select, delete, insert (user_id, viewer_id) on rollcall.presence_visibility_list to authenticated;
grant all on rollcall.presence_visibility_list to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence_visibility_list', 'user_id', true, 40, null),
  ('rollcall.presence_visibility_list', 'viewer_id', false, null,
    'another user''s choice, which listed users must not learn of');

-- Definer: see note_visibility_change.
create function rollcall_internal.on_visibility_list_changed() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  case tg_op
    when 'INSERT' then
      v_ids := array(select n.user_id from new_rows n union select n.viewer_id from new_rows n);
    when 'DELETE' then
      v_ids := array(select o.user_id from old_rows o union select o.viewer_id from old_rows o);
    else
      v_ids := array(
        select n.user_id from new_rows n union select n.viewer_id from new_rows n
        union select o.user_id from old_rows o union select o.viewer_id from old_rows o
      );
  end case;
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(v_ids, v_ids, tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_visibility_list_changed is
  'Trigger function: changed entries invalidate what both users see of each other.';

create trigger invalidate_after_insert after insert on rollcall.presence_visibility_list
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_visibility_list_changed();
create trigger invalidate_after_update after update on rollcall.presence_visibility_list
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_visibility_list_changed();
create trigger invalidate_after_delete after delete on rollcall.presence_visibility_list
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_visibility_list_changed();
create trigger invalidate_after_truncate after truncate on rollcall.presence_visibility_list
  for each statement execute function rollcall_internal.on_truncated();

-- Faces ---------------------------------------------------------------------------------------------------------------

-- Whether a face was deleted within about two minutes. Policies still show it, so that those who saw it receive its
-- DELETE.
-- Definer: reads a log that no API role may read.
create function rollcall_internal.face_was_deleted(p_user uuid) returns boolean
  language sql stable security definer set search_path = ''
as $$
  select exists (
    select from rollcall_internal.visibility_log v
    where v.reason = 'face deleted' and (v.subjects is null or p_user = any (v.subjects))
  )
$$;
comment on function rollcall_internal.face_was_deleted is 'Whether a face of the user was deleted a moment ago.';

-- The trusted face of users that have the caller on their visibility list; the public face of contacts and team
-- members whose settings allow it; no user on either side of a block. Returns a set, because a policy evaluates it
-- once per statement (a hashed subplan); a check per row costs 30 µs per row.
-- Only faces that exist: else the caller could tell a contact that was never seen from one that blocked the caller.
-- Definer: reads blocks, settings and lists of other users, which the caller must not see. Answers for auth.uid()
-- only, so it returns nothing that `select` on user_presence would not.
create function rollcall.my_visible_users() returns table (subject_id uuid, face rollcall.presence_face)
  language plpgsql stable security definer set search_path = '' rows 50
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with
    hidden as (
      select b.id from rollcall_internal.blocked_with(v_me) as b (id) where b.id is not null
    ),
    listed as (
      select l.user_id as id from rollcall.presence_visibility_list l where l.viewer_id = v_me
    ),
    related as (
      select c.id, 'contacts'::rollcall.presence_visibility as how from rollcall_internal.contacts_of(v_me) as c (id)
      union all
      select t.id, 'team' from rollcall_internal.team_mates_of(v_me) as t (id)
    ),
    candidate as (
      select l.id, 'trusted'::rollcall.presence_face as face
      from listed l
      where l.id not in (select h.id from hidden h)
      union
      select r.id, 'public'
      from related r
      left join rollcall.presence_settings s on s.user_id = r.id
      where coalesce(s.visibility, 'contacts') in (r.how, 'everyone')
        and r.id <> v_me
        and r.id not in (select h.id from hidden h)
        and r.id not in (select l.id from listed l)
    )
    select c.id, c.face
    from candidate c
    -- By a scalar subquery, because a join or `exists` may read the whole table.
    where coalesce((select true from rollcall.user_presence p where p.user_id = c.id and p.face = c.face),
      rollcall_internal.face_was_deleted(c.id));
end
$$;
comment on function rollcall.my_visible_users is 'Users that the caller sees by relation, and which face of each.';
grant execute on function rollcall.my_visible_users to authenticated, service_role;

-- Definer: see my_visible_users.
create function rollcall.can_see_user(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me uuid;
begin
  -- One lookup settles nearly all rows.
  perform from rollcall.presence_settings s where s.user_id = p_subject and s.visibility = 'everyone';
  if not found then
    return false;
  end if;
  v_me := auth.uid();
  return v_me is not null
    and not exists (select from rollcall_internal.blocks_between(v_me, p_subject))
    and not exists (select from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = v_me)
    and (exists (select from rollcall.user_presence p where p.user_id = p_subject and p.face = 'public')
      or rollcall_internal.face_was_deleted(p_subject));
end
$$;
comment on function rollcall.can_see_user is
  'Whether a user has a public face and shows it to everyone, and the caller is not blocked.';
grant execute on function rollcall.can_see_user to authenticated, service_role;

create table rollcall.user_presence (
  user_id uuid not null,
  face rollcall.presence_face not null,
  status rollcall.presence_status not null,
  reach rollcall.presence_reach not null,
  last_seen timestamptz,
  custom_status text,
  activity text,
  current_page text,
  idle_since timestamptz,
  -- A sequence would count the changes of users that the reader may not see. A face that is created again continues
  -- above its earlier numbers, because it changes less often than once per microsecond.
  version bigint not null default (extract(epoch from clock_timestamp()) * 1000000)::bigint,
  constraint user_presence_pkey primary key (user_id, face)
) with (fillfactor = 80);
comment on table rollcall.user_presence is
  'The two faces of each user. Policies return at most one row of a user to each viewer, so hidden fields are not in '
  'that row. Derived: change presence_devices, presence_choices or presence_settings instead, or call '
  'rollcall.set_status().';
comment on column rollcall.user_presence.status is 'The full value: online, away, busy, dnd, invisible or offline.';
comment on column rollcall.user_presence.reach is
  'online, away or offline: busy and dnd read online, invisible reads what the devices report.';
comment on column rollcall.user_presence.version is
  'Increases by one with every state of the row; starts at the microsecond in which the row was created. Comparable '
  'only within one face of one user.';
alter table rollcall.user_presence enable row level security;
create policy "users read their trusted face" on rollcall.user_presence
  for select to authenticated
  using (user_id = (select auth.uid()) and face = 'trusted');
create policy "viewers read the face shown to them" on rollcall.user_presence
  for select to authenticated
  using (
    user_id <> (select auth.uid())
    and (
      (user_id, face) in (select s.subject_id, s.face from rollcall.my_visible_users() s)
      or (face = 'public' and rollcall.can_see_user(user_id))
    )
  );
create policy "service_role has full access" on rollcall.user_presence
  for all to service_role using (true) with check (true);
revoke all on rollcall.user_presence from anon, authenticated, service_role;
grant select on rollcall.user_presence to authenticated;
grant all on rollcall.user_presence to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.user_presence', 'user_id', true, 70, null);

-- A new face changes visibility as well as state: viewers that found nothing before must be queried again.
-- Definer: see invalidate_visibility.
create function rollcall_internal.on_faces_inserted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids constant uuid[] := array(select distinct n.user_id from new_rows n);
begin
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(null, v_ids, 'face inserted');
    perform rollcall_internal.notify_ids('rollcall_presence', v_ids);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_inserted is 'Trigger function: notifies nodes of new faces.';

-- A face changed in SQL gets a version and a reach here. In a statement trigger, because a trigger before each row
-- would cost every refresh a lock per row; so one change makes two updates, of which the second counts.
-- Definer: see invalidate_visibility.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_faces_updated() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  if current_setting('rollcall.batch', true) is distinct from 'on' then
    perform set_config('rollcall.batch', 'on', true);
    update rollcall.user_presence p set
        version = p.version + 1,
        reach = case n.status when 'invisible' then n.reach when 'away' then 'away' when 'offline' then 'offline'
          else 'online' end
      from new_rows n
      where p.user_id = n.user_id and p.face = n.face;
    perform set_config('rollcall.batch', '', true);
  end if;
  if exists (select from new_rows) then
    perform rollcall_internal.notify_ids('rollcall_presence', array(select distinct n.user_id from new_rows n));
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_updated is 'Trigger function: notifies nodes of changed faces.';

-- Definer: see invalidate_visibility.
create function rollcall_internal.on_faces_deleted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_ids constant uuid[] := array(select distinct o.user_id from old_rows o);
begin
  if cardinality(v_ids) > 0 then
    perform rollcall_internal.note_visibility_change(null, v_ids, 'face deleted');
    perform rollcall_internal.notify_ids('rollcall_presence', v_ids);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_faces_deleted is 'Trigger function: notifies nodes of deleted faces.';

create trigger notify_after_insert after insert on rollcall.user_presence
  referencing new table as new_rows for each statement execute function rollcall_internal.on_faces_inserted();
create trigger notify_after_update after update on rollcall.user_presence
  referencing new table as new_rows for each statement execute function rollcall_internal.on_faces_updated();
create trigger notify_after_delete after delete on rollcall.user_presence
  referencing old table as old_rows for each statement execute function rollcall_internal.on_faces_deleted();
create trigger invalidate_after_truncate after truncate on rollcall.user_presence
  for each statement execute function rollcall_internal.on_truncated();

-- A row that gets another user or face invalidates all visibility, because the old user is not known here.
create trigger invalidate_after_renaming after update of user_id, face on rollcall.user_presence
  for each statement execute function rollcall_internal.on_truncated();

-- Publication ---------------------------------------------------------------------------------------------------------

create table rollcall_internal.publication (
  only_row boolean not null default true
    constraint publication_pkey primary key constraint publication_is_one_row check (only_row),
  published oid not null
);
comment on table rollcall_internal.publication is
  'The publication supabase_realtime to which user_presence was added, by OID. One row.';
-- No policies: only the server uses it.
alter table rollcall_internal.publication enable row level security;

-- A publication that was dropped and created again has another OID and gets the table back; a table that was dropped
-- from a publication stays out.
-- Definer: the owner of Rollcall must own the publication; doctor reports it otherwise.
create function rollcall_internal.publish_presence() returns boolean
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_publication record;
begin
  select p.oid, p.puballtables into v_publication from pg_catalog.pg_publication p
    where p.pubname = 'supabase_realtime';
  if not found or exists (select from rollcall_internal.publication k where k.published = v_publication.oid) then
    return false;
  end if;
  if not v_publication.puballtables and not exists (
    select from pg_catalog.pg_publication_tables t
    where t.pubname = 'supabase_realtime' and t.schemaname = 'rollcall' and t.tablename = 'user_presence')
  then
    alter publication supabase_realtime add table rollcall.user_presence;
  end if;
  insert into rollcall_internal.publication (published) values (v_publication.oid)
    on conflict (only_row) do update set published = excluded.published;
  return true;
exception when insufficient_privilege then
  return false;
end
$$;
comment on function rollcall_internal.publish_presence is
  'Adds user_presence to the publication supabase_realtime once per publication; whether it did.';

do $$ begin perform rollcall_internal.publish_presence(); end $$;

-- schemas/25_presence_faces.sql --------------------------------------------------------------------------------------

-- Triggers recompute faces from devices, choices and settings, in the transaction that changed them. A face is written
-- only when it differs, so a heartbeat or a repeat causes no notification. All writers lock in one order: choices,
-- devices, settings, the row in user_last_seen, faces; several users in the order of their ids. So writers of one
-- statement wait for each other without deadlocks. The setting rollcall.batch, local to a transaction, tells these
-- triggers that the writer refreshes faces itself and that its rows are complete.

-- One row per user and face. `known` is false for a user without any data (there must be no face); `shown` is false
-- for a face that must not be created: a user who was never seen and is invisible must not become known by it.
-- Invoker, without settings, so that it is inlined into the calling statement. For the server only.
-- Over 60 lines: one statement.
create function rollcall_internal.faces_of(p_users uuid[], p_now timestamptz) returns table (
  user_id uuid, face rollcall.presence_face, status rollcall.presence_status, reach rollcall.presence_reach,
  last_seen timestamptz, custom_status text, activity text, current_page text, idle_since timestamptz,
  known boolean, shown boolean, last_seen_before timestamptz
)
  language sql stable security invoker
as $$
  with fact as materialized (
    select
      l.user_id,
      coalesce(device.live, false) as live,
      (case
        when device.live is not true then 'offline' when c.chosen is not null then c.chosen
        when device.active then 'online' else 'away'
      end)::rollcall.presence_status as status,
      (case
        when device.live is not true then 'offline' when device.active or c.chosen in ('busy', 'dnd') then 'online'
          else 'away'
      end)::rollcall.presence_reach as reach,
      case
        when device.live then p_now
        else pg_catalog.date_trunc('milliseconds', greatest(l.last_seen, device.last_heartbeat_at))
      end as last_seen,
      case when device.idle then device.idle_since end as idle_since,
      -- From the device used last that has a value. Few devices have one, so it is looked up only for users that do.
      case when device.tells then (
        select d.activity from rollcall.presence_devices d
        where d.user_id = l.user_id and d.live and d.activity is not null
        order by d.last_active_at desc, d.device_id limit 1
      ) end as activity,
      case when device.tells then (
        select d.current_page from rollcall.presence_devices d
        where d.user_id = l.user_id and d.live and d.current_page is not null
        order by d.last_active_at desc, d.device_id limit 1
      ) end as current_page,
      case when c.custom_status_expires_at is null or c.custom_status_expires_at > p_now then c.custom_status end
        as custom_status,
      c.chosen is not distinct from 'invisible' as hidden,
      c.last_seen_when_hidden,
      coalesce(s.show_last_seen, true) as show_last_seen,
      coalesce(s.show_activity, true) as show_activity,
      coalesce(s.show_custom_status, true) as show_custom_status,
      s.user_id is not null as has_settings,
      l.last_seen is not null or device.user_id is not null or c.user_id is not null or s.user_id is not null as known,
      l.last_seen as last_seen_before
    from rollcall.user_last_seen l
    left join (
      select
        d.user_id,
        bool_or(d.live) as live,
        bool_or(d.status = 'online' and d.idle_since is null) as active,
        bool_and(d.idle_since is not null) filter (where d.live) as idle,
        max(d.idle_since) filter (where d.live) as idle_since,
        bool_or(d.live and (d.activity is not null or d.current_page is not null)) as tells,
        max(d.last_heartbeat_at) as last_heartbeat_at
      from rollcall.presence_devices d
      where d.user_id = any (p_users)
      group by d.user_id
    ) device on device.user_id = l.user_id
    left join rollcall.presence_choices c on c.user_id = l.user_id and c.user_id = any (p_users)
    left join rollcall.presence_settings s on s.user_id = l.user_id and s.user_id = any (p_users)
    where l.user_id = any (p_users)
  )
  select
    f.user_id, 'trusted'::rollcall.presence_face, f.status, f.reach, f.last_seen, f.custom_status,
    f.activity, f.current_page, f.idle_since, f.known, true, f.last_seen_before
  from fact f
  union all
  -- An invisible user shows what an offline user shows: only the last_seen of the moment of going invisible.
  select
    f.user_id, 'public', 'offline', 'offline',
    case when not f.show_last_seen then null when f.hidden then f.last_seen_when_hidden else f.last_seen end,
    null, null, null, null,
    f.known, not f.hidden or f.last_seen_when_hidden is not null or f.has_settings, f.last_seen_before
  from fact f
  where f.hidden or not f.live
  union all
  select
    f.user_id, 'public', f.status, f.reach,
    case when f.show_last_seen then f.last_seen end,
    case when f.show_custom_status then f.custom_status end,
    case when f.show_activity then f.activity end,
    case when f.show_activity then f.current_page end,
    case when f.show_last_seen then f.idle_since end,
    f.known, true, f.last_seen_before
  from fact f
  where f.live and not f.hidden
$$;
comment on function rollcall_internal.faces_of is
  'Computes the faces of some users from devices, choices and settings.';

-- Locks one row per user in the order of ids, so that concurrent changes of one user follow each other. Each statement
-- of a volatile function has its own snapshot, so everything read after the lock includes earlier changes. That holds
-- in read committed only; other isolation levels are refused. Its plans are generic and fixed, so they must not depend
-- on table sizes at planning time: each table is read by `user_id = any`, an index scan in the order of ids, and
-- joined by hash. That is linear whatever the statistics say; a nested loop over a table that was empty at planning
-- time is not.
-- Definer: called by triggers of users who may not write faces. For the server only.
-- Over 60 lines: the lock, the comparison and both writes share one snapshot each.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.refresh_faces(p_users uuid[]) returns void
  language plpgsql volatile security definer
  set plan_cache_mode = force_generic_plan set jit = off
  set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_users constant uuid[] := array(select distinct w.id from unnest(p_users) as w (id) where w.id is not null
    order by w.id);
  v_now timestamptz;
  v_new uuid[];
  v_gone uuid[];
begin
  perform rollcall_internal.check_search_path();
  if v_users = '{}' then
    return;
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'presence can only be changed in read committed'
      using errcode = 'feature_not_supported',
        detail = 'A snapshot taken before the user was locked may miss what another transaction has changed.';
  end if;
  perform set_config('rollcall.batch', 'on', true);

  -- Creates or locks the row in one statement and in order: `on conflict do update` also locks rows that it does not
  -- update.
  insert into rollcall.user_last_seen as l (user_id) select w.id from unnest(v_users) as w (id)
    on conflict (user_id) do update set last_seen = l.last_seen where false;
  v_now := date_trunc('milliseconds', clock_timestamp());

  with face as materialized (
    select
      f.*,
      p.user_id is null as missing,
      (f.status, f.reach, f.custom_status, f.activity, f.current_page, f.idle_since)
        is distinct from (p.status, p.reach, p.custom_status, p.activity, p.current_page, p.idle_since)
      -- While a user is shown as live, last_seen alone is no change.
      or ((f.reach = 'offline' or (f.last_seen is null) <> (p.last_seen is null)) and p.last_seen is distinct
        from f.last_seen)
        as differs
    from rollcall_internal.faces_of(v_users, v_now) f
    left join rollcall.user_presence p on p.user_id = f.user_id and p.face = f.face and p.user_id = any (v_users)
  ),
  seen as (
    -- For a live user once a minute: devices have the exact time, and deleting a device writes it first.
    update rollcall.user_last_seen l set last_seen = f.last_seen
    from face f
    where l.user_id = f.user_id and l.user_id = any (v_users)
      and f.face = 'trusted' and f.known
      and (f.last_seen_before is null and f.last_seen is not null
        or f.last_seen > f.last_seen_before + case when f.reach = 'offline' then interval '0'
          else interval '1 minute' end)
  ),
  changed as (
    update rollcall.user_presence p set
      status = f.status, reach = f.reach, last_seen = f.last_seen, custom_status = f.custom_status,
      activity = f.activity, current_page = f.current_page, idle_since = f.idle_since,
      version = p.version + 1
    from face f
    where p.user_id = f.user_id and p.face = f.face and p.user_id = any (v_users)
      and f.differs and f.known and not f.missing
  )
  select
    array_agg(f.user_id) filter (where f.known),
    array_agg(f.user_id) filter (where not f.known)
  into v_new, v_gone
  from face f
  where f.missing and f.shown or not f.known;

  if v_new is not null then
    insert into rollcall.user_presence
      (user_id, face, status, reach, last_seen, custom_status, activity, current_page, idle_since)
    select f.user_id, f.face, f.status, f.reach, f.last_seen, f.custom_status, f.activity, f.current_page, f.idle_since
    from rollcall_internal.faces_of(array(select distinct n from unnest(v_new) n), v_now) f
    where f.known and f.shown
    on conflict (user_id, face) do nothing;
  end if;
  if v_gone is not null then
    delete from rollcall.user_presence p where p.user_id = any (v_gone);
    delete from rollcall.user_last_seen l where l.user_id = any (v_gone);
  end if;
  perform set_config('rollcall.batch', v_batch, true);
end
$$;
comment on function rollcall_internal.refresh_faces is
  'Recomputes the faces of some users and writes those that differ.';

-- What an invisible user shows as last_seen is fixed when the choice is made, before it takes effect.
-- Definer: reads presence that the caller may not see; writes only the new row.
create function rollcall_internal.before_presence_choice() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  new.updated_at := now();
  if new.custom_status is null then
    new.custom_status_expires_at := null;
  end if;
  if new.chosen is distinct from 'invisible' then
    new.last_seen_when_hidden := null;
  elsif tg_op = 'INSERT' or old.chosen is distinct from 'invisible' then
    new.last_seen_when_hidden := date_trunc('milliseconds', case
      when exists (select from rollcall.presence_devices d where d.user_id = new.user_id and d.live)
        then clock_timestamp()
      else (select l.last_seen from rollcall.user_last_seen l where l.user_id = new.user_id) end);
  end if;
  return new;
end
$$;
comment on function rollcall_internal.before_presence_choice is
  'Trigger function: sets updated_at and the last_seen that others read while the user is invisible.';

create trigger before_presence_choice before insert or update on rollcall.presence_choices
  for each row execute function rollcall_internal.before_presence_choice();

-- Fires for changes that do not set rollcall.batch.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_inserted() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.refresh_faces(array(select n.user_id from new_rows n));
  return null;
end
$$;
comment on function rollcall_internal.on_source_inserted is
  'Trigger function: recomputes the faces of users whose devices, choices, settings or last_seen were inserted.';

-- Fires for changes that do not set rollcall.batch.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_updated() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.refresh_faces(array(select n.user_id from new_rows n union all select o.user_id
    from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_source_updated is
  'Trigger function: recomputes the faces of users whose devices, choices, settings or last_seen were updated.';

-- Fires for changes that do not set rollcall.batch.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_deleted() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.refresh_faces(array(select o.user_id from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_source_deleted is
  'Trigger function: recomputes the faces of users whose devices, choices, settings or last_seen were deleted.';

-- Sets the timestamps that the server would set with a status, unless the same statement sets them. In a statement
-- trigger, because a trigger before each row would cost every batch a lock per row.
-- Definer: see refresh_faces; users may not write these columns.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_devices_updated() returns trigger
  language plpgsql security definer
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  -- Names and context signals are not presence.
  v_users constant uuid[] := array(
    select coalesce(n.user_id, o.user_id)
    from new_rows n
    full join old_rows o on o.user_id = n.user_id and o.device_id = n.device_id
    where (n.status, n.activity, n.current_page, n.idle_since, n.last_heartbeat_at, n.last_active_at)
      is distinct from (o.status, o.activity, o.current_page, o.idle_since, o.last_heartbeat_at, o.last_active_at)
  );
begin
  perform rollcall_internal.check_search_path();
  if v_users = '{}' then
    return null;
  end if;
  perform set_config('rollcall.batch', 'on', true);
  update rollcall.presence_devices d set
      -- A device with a socket was live until now; one on heartbeats until the last heartbeat.
      last_heartbeat_at = case
        when n.last_heartbeat_at = o.last_heartbeat_at and (n.live or o.live and o.nodes <> '{}') then v_now
        else n.last_heartbeat_at end,
      signed_off_at = case
        when n.signed_off_at is distinct from o.signed_off_at or n.live = o.live then n.signed_off_at
        when n.live then null else v_now end,
      background_seconds = case when n.status = 'away' then n.background_seconds end,
      session_started_at = case
        when n.session_started_at = o.session_started_at and n.live and not o.live then v_now
        else n.session_started_at end,
      last_active_at = case
        when n.last_active_at = o.last_active_at and n.idle_since is not distinct from o.idle_since and n.live
          then v_now
        else n.last_active_at end,
      idle_since = case
        when n.last_active_at = o.last_active_at and n.idle_since is not distinct from o.idle_since and n.live then null
        else n.idle_since end
    from new_rows n
    join old_rows o on o.user_id = n.user_id and o.device_id = n.device_id
    where d.user_id = n.user_id and d.device_id = n.device_id
      and (n.status, n.activity, n.current_page) is distinct from (o.status, o.activity, o.current_page);
  perform set_config('rollcall.batch', '', true);
  perform rollcall_internal.refresh_faces(v_users);
  return null;
end
$$;
comment on function rollcall_internal.on_devices_updated is
  'Trigger function: completes changes of devices made in SQL and recomputes faces.';

-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_devices_deleted() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform set_config('rollcall.batch', 'on', true);
  insert into rollcall.user_last_seen as l (user_id, last_seen)
    select o.user_id, date_trunc('milliseconds',
      max(case when o.live and o.nodes <> '{}' then clock_timestamp() else o.last_heartbeat_at end))
    from old_rows o
    group by o.user_id
    order by o.user_id
    on conflict (user_id) do update set last_seen = greatest(l.last_seen, excluded.last_seen);
  perform set_config('rollcall.batch', '', true);
  perform rollcall_internal.refresh_faces(array(select o.user_id from old_rows o));
  return null;
end
$$;
comment on function rollcall_internal.on_devices_deleted is
  'Trigger function: keeps the last_seen of deleted devices and recomputes faces.';

-- TRUNCATE has no transition tables: this runs before it, on_source_truncated after it.
-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_truncating() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform set_config('rollcall.batch', 'on', true);
  insert into rollcall.user_last_seen as l (user_id, last_seen)
    select d.user_id, date_trunc('milliseconds',
      max(case when d.live and d.nodes <> '{}' then clock_timestamp() else d.last_heartbeat_at end))
    from rollcall.presence_devices d
    group by d.user_id
    order by d.user_id
    on conflict (user_id) do update set last_seen = greatest(l.last_seen, excluded.last_seen);
  perform set_config('rollcall.batch', '', true);
  return null;
end
$$;
comment on function rollcall_internal.on_source_truncating is
  'Trigger function: keeps the last_seen of all devices before TRUNCATE.';

-- Definer: see refresh_faces.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_source_truncated() returns trigger
  language plpgsql security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.refresh_faces(array(
    select l.user_id from rollcall.user_last_seen l union all select p.user_id from rollcall.user_presence p));
  return null;
end
$$;
comment on function rollcall_internal.on_source_truncated is 'Trigger function: recomputes all faces after TRUNCATE.';

create trigger record_before_truncate before truncate on rollcall.presence_devices
  for each statement execute function rollcall_internal.on_source_truncating();

create trigger refresh_after_insert after insert on rollcall.presence_devices
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.presence_devices
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_devices_updated();
create trigger refresh_after_delete after delete on rollcall.presence_devices
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_devices_deleted();
create trigger refresh_after_truncate after truncate on rollcall.presence_devices
  for each statement execute function rollcall_internal.on_source_truncated();

create trigger refresh_after_insert after insert on rollcall.presence_choices
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.presence_choices
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_updated();
create trigger refresh_after_delete after delete on rollcall.presence_choices
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_deleted();
create trigger refresh_after_truncate after truncate on rollcall.presence_choices
  for each statement execute function rollcall_internal.on_source_truncated();

create trigger refresh_after_insert after insert on rollcall.presence_settings
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.presence_settings
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_updated();
create trigger refresh_after_delete after delete on rollcall.presence_settings
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_deleted();
create trigger refresh_after_truncate after truncate on rollcall.presence_settings
  for each statement execute function rollcall_internal.on_source_truncated();

create trigger refresh_after_insert after insert on rollcall.user_last_seen
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_inserted();
create trigger refresh_after_update after update on rollcall.user_last_seen
  referencing old table as old_rows new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_updated();
create trigger refresh_after_delete after delete on rollcall.user_last_seen
  referencing old table as old_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on')
  execute function rollcall_internal.on_source_deleted();
create trigger refresh_after_truncate after truncate on rollcall.user_last_seen
  for each statement execute function rollcall_internal.on_source_truncated();

-- schemas/30_typing.sql ----------------------------------------------------------------------------------------------

-- Typing: who is notified, and how it expires. A start and a stop are notified; a refresh only when two seconds have
-- passed since the last notification.

-- Participants of a conversation see each other type, except users that are blocked, invisible, hidden from everyone,
-- or that switched typing off.
-- In rollcall_internal, where a policy may call it and API roles may not: called by name, it would answer for somebody
-- who is not typing, and so reveal who is invisible or has blocked the caller.
-- Definer: see my_visible_users.
create function rollcall_internal.can_see_typing(p_subject uuid) returns boolean
  language plpgsql stable security definer set search_path = ''
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
  language plpgsql security definer set search_path = ''
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
  language plpgsql volatile security definer set search_path = ''
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
  language plpgsql volatile security definer set search_path = ''
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
  language plpgsql security definer set search_path = ''
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
  language plpgsql security definer set search_path = ''
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
  language plpgsql security definer set search_path = ''
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
begin
  perform rollcall_internal.check_search_path();
  delete from rollcall.typing_indicators t
  using (
    select e.conversation_id, e.user_id from rollcall.typing_indicators e
    where e.expires_at <= clock_timestamp()
    for update skip locked
  ) expired
  where t.conversation_id = expired.conversation_id and t.user_id = expired.user_id;
  return (select min(t.expires_at) from rollcall.typing_indicators t);
end
$$;
comment on function rollcall.expire_typing is
  'Deletes expired typing rows; returns when the next one expires, null when there is none.';
grant execute on function rollcall.expire_typing to service_role;

-- schemas/35_presence_management.sql ---------------------------------------------------------------------------------

-- Messages to sockets, limits, the registry of personal data in use, and retention.

-- Messages to sockets -------------------------------------------------------------------------------------------------

-- NOTIFY carries the id, the content stays here for two minutes. Unlogged: after a crash there are no sockets.
create unlogged table rollcall_internal.outbox (
  id bigint generated always as identity primary key,
  kind text not null constraint outbox_kind_is_known check (kind in ('message', 'sign_off', 'disconnect')),
  recipients uuid[] not null,
  body json not null,
  posted_at timestamptz not null default now()
);
comment on table rollcall_internal.outbox is
  'Messages for sockets, sign-offs and disconnects. Each node reads them once; kept for two minutes. Unlogged.';
-- No policies: only the server reads it.
alter table rollcall_internal.outbox enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.outbox', 'recipients', false, null, 'deleted after two minutes');

-- Definer: appends to a table that no API role may write.
create function rollcall_internal.post_to_outbox(p_kind text, p_recipients uuid[], p_body json) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id bigint;
begin
  insert into rollcall_internal.outbox (kind, recipients, body) values (p_kind, p_recipients,
    p_body) returning id into v_id;
  if p_kind = 'message' then
    perform rollcall_internal.notify('rollcall_broadcast', v_id::text);
  else
    -- Nothing repeats a sign-off or a disconnect that was missed.
    perform rollcall_internal.notify_directly('rollcall_broadcast', v_id::text);
  end if;
end
$$;
comment on function rollcall_internal.post_to_outbox is 'Queues a message for the sockets of some users.';

-- Users without a socket miss it.
-- Definer: reads devices and nodes of any user; service_role only.
create function rollcall.broadcast(p_category text, p_event text, p_recipients uuid[], p_payload json)
  returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_connected bigint;
begin
  perform rollcall_internal.post_to_outbox('message', array(select distinct r from unnest(p_recipients) r),
    json_build_object('category', p_category, 'event', p_event, 'payload', p_payload));
  select count(distinct d.user_id) into v_connected
  from rollcall.presence_devices d
  where d.user_id = any (p_recipients) and rollcall.any_node_lives(d.nodes);
  return v_connected;
end
$$;
comment on function rollcall.broadcast is
  'Sends an event to every open socket of some users, at most once; returns how many users are connected.';
grant execute on function rollcall.broadcast to service_role;

-- Sockets close with code 4403 and this reason. Clients may reconnect with a valid token. The devices go offline as
-- after any closed socket.
-- Definer: reads devices and nodes of any user; service_role only.
create function rollcall.disconnect(p_user uuid,
  p_reason text default 'disconnected by an administrator') returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- The limit of a close frame.
  if octet_length(p_reason) > 123 then
    raise exception 'the reason is longer than 123 bytes' using errcode = 'string_data_right_truncation';
  end if;
  perform rollcall_internal.post_to_outbox('disconnect', array[p_user], json_build_object('reason', p_reason));
  return (select count(*) from rollcall.presence_devices d where d.user_id = p_user
    and rollcall.any_node_lives(d.nodes));
end
$$;
comment on function rollcall.disconnect is
  'Closes every socket of a user on every node; returns how many devices were connected.';
grant execute on function rollcall.disconnect to service_role;

-- Retention -----------------------------------------------------------------------------------------------------------

create table rollcall.retention (
  key text primary key constraint retention_key_is_known check (key in ('offline_devices', 'last_seen')),
  keep interval constraint retention_keep_is_positive check (keep > interval '0'),
  applied_at timestamptz
);
comment on table rollcall.retention is
  'How long presence is kept: devices that stay offline, and last_seen. Null keeps forever. rollcall.sweep() applies '
  'it once an hour.';
-- No policies for users: for operators.
alter table rollcall.retention enable row level security;
create policy "service_role reads" on rollcall.retention for select to service_role using (true);
create policy "service_role updates" on rollcall.retention for update to service_role using (true) with check (true);
revoke all on rollcall.retention from anon, authenticated, service_role;
grant select, update (keep) on rollcall.retention to service_role;

insert into rollcall.retention (key, keep)
  values ('offline_devices', interval '90 days'), ('last_seen', interval '1 year');

-- Limits of writes without the server ---------------------------------------------------------------------------------

-- How often users may write by function or on the tables. Refused writes and repeats change nothing and do not count.

create table rollcall.limits (
  key text primary key
    constraint limits_key_is_known check (key in ('status_updates', 'presence_writes', 'typing_starts')),
  per_minute int not null constraint limits_per_minute_is_not_negative check (per_minute >= 0)
);
comment on table rollcall.limits is
  'How often per minute, and at once, each user may write without the server; 0 for no limit. status_updates: calls of '
  'set_my_status. presence_writes: statements on presence_devices and presence_choices that others may notice. '
  'typing_starts: typing that starts, also through the server. The server counts REST and sockets with limits of its '
  'own.';
-- No policies for users: for operators.
alter table rollcall.limits enable row level security;
create policy "service_role reads" on rollcall.limits for select to service_role using (true);
create policy "service_role updates" on rollcall.limits for update to service_role using (true) with check (true);
revoke all on rollcall.limits from anon, authenticated, service_role;
grant select, update (per_minute) on rollcall.limits to service_role;

insert into rollcall.limits (key, per_minute)
  values ('status_updates', 10), ('presence_writes', 120), ('typing_starts', 300);

create unlogged table rollcall_internal.rate_limits (
  user_id uuid,
  key text,
  full_at timestamptz not null,
  constraint rate_limits_pkey primary key (user_id, key)
) with (fillfactor = 50);
comment on table rollcall_internal.rate_limits is
  'When a quota of a user is full again. Expired rows are deleted. Unlogged.';
-- No policies: only the server uses it.
alter table rollcall_internal.rate_limits enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.rate_limits', 'user_id', false, null,
    'a time, deleted within minutes; erasing it would reset the limit');

-- PostgREST answers PT429 with status 429. The detail is JSON: the limit, and the milliseconds until one more write is
-- allowed and until the quota is full again.
-- Definer: users must not reset their own count; acts for auth.uid() only.
create function rollcall_internal.consume_quota(p_key text) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_limit constant int := (select nullif(l.per_minute, 0) from rollcall.limits l where l.key = p_key);
  v_step constant interval := interval '1 minute' / v_limit;
  v_full timestamptz;
  v_wait bigint;
begin
  if v_limit is null then
    return;
  end if;
  insert into rollcall_internal.rate_limits as a (user_id, key, full_at)
    values (v_me, p_key, clock_timestamp() + v_step)
    on conflict (user_id, key) do update set full_at = greatest(a.full_at, clock_timestamp()) + v_step
      where greatest(a.full_at, clock_timestamp()) + v_step <= clock_timestamp() + interval '1 minute';
  if found then
    return;
  end if;
  select a.full_at into v_full from rollcall_internal.rate_limits a where a.user_id = v_me and a.key = p_key;
  v_wait := greatest(1, ceil(extract(epoch from v_full + v_step - clock_timestamp() - interval '1 minute') * 1000));
  raise exception 'too many %, try again in % s', replace(p_key, '_', ' '), ceil(v_wait / 1000.0)
    using errcode = 'PT429', detail = json_build_object('limit', v_limit, 'retry_after_ms', v_wait,
      'reset_ms', ceil(extract(epoch from v_full - clock_timestamp()) * 1000))::text;
end
$$;
comment on function rollcall_internal.consume_quota is
  'Counts a write of the caller, or refuses it with SQLSTATE PT429.';

-- Definer: see consume_quota.
create function rollcall.consume_status_quota() returns void
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if auth.uid() is null then
    raise exception 'the claims have no user: sub is required' using errcode = 'insufficient_privilege';
  end if;
  perform rollcall_internal.consume_quota('status_updates');
end
$$;
comment on function rollcall.consume_status_quota is
  'Counts a status update of the caller, or refuses it with SQLSTATE PT429.';
grant execute on function rollcall.consume_status_quota to authenticated;

-- Before the statement, so that a refused one writes no row.
-- Definer: see consume_quota.
create function rollcall_internal.limit_presence_writes() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if auth.uid() is not null then
    perform rollcall_internal.consume_quota('presence_writes');
  end if;
  return null;
end
$$;
comment on function rollcall_internal.limit_presence_writes is
  'Trigger function: counts a statement of a user against the quota of writes.';

create trigger limit_writes before insert or delete or update of status, activity, current_page
  on rollcall.presence_devices
  for each statement when (current_user = 'authenticated')
  execute function rollcall_internal.limit_presence_writes();
create trigger limit_writes before insert or update or delete on rollcall.presence_choices
  for each statement when (current_user = 'authenticated')
  execute function rollcall_internal.limit_presence_writes();

-- Quotas of rows ------------------------------------------------------------------------------------------------------

create table rollcall.quotas (
  key text primary key constraint quotas_key_is_known check (key = 'devices'),
  maximum int not null constraint quotas_maximum_is_not_negative check (maximum >= 0)
);
comment on table rollcall.quotas is
  'How many rows each user may have, whoever writes them; 0 for no limit. Lowering it deletes nothing.';
-- No policies for users: for operators.
alter table rollcall.quotas enable row level security;
create policy "service_role reads" on rollcall.quotas for select to service_role using (true);
create policy "service_role updates" on rollcall.quotas for update to service_role using (true) with check (true);
revoke all on rollcall.quotas from anon, authenticated, service_role;
grant select, update (maximum) on rollcall.quotas to service_role;

insert into rollcall.quotas (key, maximum) values ('devices', 100);

-- PostgREST answers PT409 with status 409. The server recognizes the error by the name of the constraint.
-- Invoker: only raises.
create function rollcall_internal.raise_too_many_devices() returns void
  language plpgsql stable security invoker set search_path = ''
as $$
begin
  raise exception 'too many devices: every device of the user is online' using errcode = 'PT409',
    constraint = 'presence_devices_per_user',
    detail = 'A new device replaces the one that has been offline for the longest time.',
    hint = 'Sign a device off, or use the ID of an existing one.';
end
$$;
comment on function rollcall_internal.raise_too_many_devices is
  'Raises SQLSTATE PT409: a user has as many devices as allowed, all of them online.';

-- Before anything is written, so that the write of a refused device changes nothing.
-- Invoker: for write_presence, which reads devices of any user. Reads only what the server may read.
create function rollcall_internal.users_without_room(p_users uuid[], p_devices text[]) returns uuid[]
  language plpgsql stable security invoker
as $$
declare
  v_maximum constant int := (select nullif(q.maximum, 0) from rollcall.quotas q where q.key = 'devices');
begin
  return array(
    select staying.user_id
    from (
      select d.user_id from rollcall.presence_devices d where d.user_id = any (p_users) and d.live
      union all
      select n.user_id from unnest(p_users, p_devices) as n (user_id, device_id)
    ) staying
    where v_maximum is not null
    group by staying.user_id
    having count(*) > v_maximum
  );
end
$$;
comment on function rollcall_internal.users_without_room is
  'Users for whom these new devices exceed the quota even if every offline device is deleted.';

-- The caller has locked the row in user_last_seen of each user, so that concurrent inserts are counted one after the
-- other. Skips locked devices: locks on devices come before that lock.
-- Definer: counts and deletes devices whatever the policies of the caller show. For the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.replace_offline_devices(p_users uuid[], p_devices text[]) returns uuid[]
  language plpgsql volatile security definer
as $$
declare
  v_maximum constant int := (select nullif(q.maximum, 0) from rollcall.quotas q where q.key = 'devices');
  v_users uuid[];
  v_excess bigint[];
  v_full uuid[];
begin
  perform rollcall_internal.check_search_path();
  select array_agg(many.user_id), array_agg(many.count - v_maximum) into v_users, v_excess
  from (
    select d.user_id, count(*) as count from rollcall.presence_devices d
    where d.user_id = any (p_users)
    group by d.user_id
    having count(*) > v_maximum
  ) many;
  if v_users is null then
    return '{}';
  end if;
  with replaced as materialized (
    select o.user_id, o.device_id
    from unnest(v_users, v_excess) as f (user_id, excess)
    cross join lateral (
      select d.user_id, d.device_id from rollcall.presence_devices d
      where d.user_id = f.user_id and not d.live
        and (d.user_id, d.device_id) not in (
          select n.user_id, n.device_id from unnest(p_users, p_devices) as n (user_id, device_id))
      order by d.nodes <> '{}', d.last_heartbeat_at, d.device_id
      limit f.excess
      for update skip locked
    ) o
  ),
  deleted as (
    delete from rollcall.presence_devices d using replaced o
      where d.user_id = o.user_id and d.device_id = o.device_id
      returning d.user_id
  )
  select array_agg(f.user_id) into v_full
  from unnest(v_users, v_excess) as f (user_id, excess)
  where f.excess > (select count(*) from deleted d where d.user_id = f.user_id);
  return coalesce(v_full, '{}');
end
$$;
comment on function rollcall_internal.replace_offline_devices is
  'Where these new devices exceed the quota, deletes the devices that have been offline for the longest time; returns '
  'users that still have too many.';

-- The lock is that of refresh_faces, which has it already unless the session set rollcall.batch.
-- Definer: see replace_offline_devices.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_devices_added() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
begin
  perform rollcall_internal.check_search_path();
  perform set_config('rollcall.batch', 'on', true);
  insert into rollcall.user_last_seen as l (user_id) select distinct n.user_id from new_rows n order by n.user_id
    on conflict (user_id) do update set last_seen = l.last_seen where false;
  perform set_config('rollcall.batch', v_batch, true);
  if rollcall_internal.replace_offline_devices(
    array(select n.user_id from new_rows n order by n.user_id, n.device_id),
    array(select n.device_id from new_rows n order by n.user_id, n.device_id)) <> '{}'
  then
    perform rollcall_internal.raise_too_many_devices();
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_devices_added is 'Trigger function: keeps the quota of devices of a user.';

-- After refresh_after_insert, in the order of names. Batches keep the quota themselves; but any session can make their
-- setting.
create trigger replace_after_insert after insert on rollcall.presence_devices
  referencing new table as new_rows for each statement
  when (current_setting('rollcall.batch', true) is distinct from 'on' or current_user = 'authenticated')
  execute function rollcall_internal.on_devices_added();

-- Called by rollcall.sweep under its lock.
-- Definer: acts on rows of all users; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.purge_expired(p_limit int default 10000) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_rule record;
  v_users uuid[];
  v_count bigint;
  v_all bigint := 0;
begin
  perform rollcall_internal.check_search_path();
  delete from rollcall_internal.outbox o where o.posted_at < now() - interval '2 minutes';
  delete from rollcall_internal.rate_limits a where a.full_at < now();
  -- A publication that was created again gets its table back.
  perform rollcall_internal.publish_presence();

  for v_rule in
    select r.key, clock_timestamp() - r.keep as before from rollcall.retention r
    where r.keep is not null and (r.applied_at is null or r.applied_at < now() - interval '1 hour')
    -- Devices first, because last_seen selects users without any.
    order by r.key desc
  loop
    if v_rule.key = 'offline_devices' then
      with old as (
        select d.user_id, d.device_id from rollcall.presence_devices d
        where d.status = 'offline' and d.last_heartbeat_at < v_rule.before
        order by d.user_id, d.device_id
        limit p_limit for update skip locked
      )
      delete from rollcall.presence_devices d using old o where d.user_id = o.user_id and d.device_id = o.device_id;
      get diagnostics v_count = row_count;
    else
      select array(
        select l.user_id from rollcall.user_last_seen l
        where l.last_seen < v_rule.before
          and not exists (select from rollcall.presence_devices d where d.user_id = l.user_id and d.status <> 'offline')
        limit p_limit
      ) into v_users;
      v_count := cardinality(v_users);
      if v_count > 0 then
        perform set_config('rollcall.batch', 'on', true);
        -- Devices also store when they were last live.
        delete from rollcall.presence_devices d where d.user_id = any (v_users) and d.status = 'offline';
        update rollcall.presence_choices c set last_seen_when_hidden = null where c.user_id = any (v_users);
        update rollcall.user_last_seen l set last_seen = null where l.user_id = any (v_users);
        perform set_config('rollcall.batch', 'off', true);
        perform rollcall_internal.refresh_faces(v_users);
      end if;
    end if;
    v_all := v_all + v_count;
    -- The next sweep deletes the rest.
    if v_count < p_limit then
      update rollcall.retention r set applied_at = now() where r.key = v_rule.key;
    end if;
  end loop;
  return v_all;
end
$$;
comment on function rollcall_internal.purge_expired is
  'Deletes data past its retention and delivered messages, at most p_limit of each; returns how many rows.';

-- schemas/40_presence_writes.sql -------------------------------------------------------------------------------------

-- Writing presence in batches, leases of nodes, and the sweep. Every writer updates the faces in the same transaction.

-- At most one write per user. An activity or page that is null stays; an empty one is cleared. Kinds:
--   status      sets the status of a device; without a device id, of all live devices, or of `default`. With
--               p_background the device goes to the background: it is away, and the choice of the user stays
--   connect     a socket opened on p_node; brings an offline device back. A repeat changes nothing; with p_active the
--               socket
--               opened just now, which also brings back a device that had signed off
--   disconnect  the last socket on p_node closed p_age seconds ago; offline unless another node holds one or the device
--               is in the background
--   silent      the socket on p_node does not respond: offline unless another node holds one, but still connected
--   heartbeat   alive; with p_active also in use. Brings back a device that timed out, not one that signed off
-- A socket that opened just now and a heartbeat with p_active end the background.
-- The write of a new device is left out, and the user from the result, if the quota of devices is reached and every
-- device is online.
-- Locks as refresh_faces does. A lock that is not granted within the callers lock_timeout fails the batch; the server
-- then writes the locked users apart. Its plans are fixed for the reasons that refresh_faces gives.
-- Definer: the server writes for many users in one statement, and has checked that each writes for itself.
-- Over 60 lines: the choice, new devices and the one update of devices share the locks and the order of the batch.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.write_presence(
  p_kind text[], p_user uuid[], p_device text[], p_node uuid[], p_age double precision[], p_active boolean[],
  p_status rollcall.presence_status[], p_set_custom boolean[], p_custom text[], p_custom_expires timestamptz[],
  p_activity text[], p_page text[], p_background int[] default null
) returns setof rollcall.user_presence
  language plpgsql volatile security definer
  set plan_cache_mode = force_generic_plan set jit = off
  set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_users uuid[] := p_user;
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_new_users uuid[];
  v_new_devices text[];
  v_refused uuid[];
  v_unnamed constant boolean := array_position(p_device, null) is not null;
begin
  perform rollcall_internal.check_search_path();
  perform set_config('rollcall.batch', 'on', true);

  -- Most devices exist.
  select array_agg(o.user_id), array_agg(o.device_id) into v_new_users, v_new_devices
  from unnest(p_kind, p_user, p_device) as o (kind, user_id, device_id)
  where o.kind in ('status', 'connect', 'heartbeat') and o.device_id is not null
    and (o.user_id, o.device_id) not in (
      select d.user_id, d.device_id from rollcall.presence_devices d where d.user_id = any (v_users));
  if v_new_users is not null then
    v_refused := rollcall_internal.users_without_room(v_new_users, v_new_devices);
    if v_refused <> '{}' then
      select
        array_agg(o.kind), array_agg(o.user_id), array_agg(o.device_id), array_agg(o.node), array_agg(o.age),
        array_agg(o.active), array_agg(o.status), array_agg(o.set_custom), array_agg(o.custom),
        array_agg(o.custom_expires), array_agg(o.activity), array_agg(o.page), array_agg(o.background)
      into p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_set_custom, p_custom, p_custom_expires,
        p_activity, p_page, p_background
      from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_set_custom, p_custom,
          p_custom_expires, p_activity, p_page, p_background)
        as o (kind, user_id, device_id, node, age, active, status, set_custom, custom, custom_expires, activity, page,
          background)
      where o.user_id <> all (v_refused);
      v_users := p_user;
      if v_users is null then
        perform set_config('rollcall.batch', v_batch, true);
        return;
      end if;
    end if;
  end if;

  -- The choice comes first: going invisible stores the state of that moment. Only changed rows are written. Going
  -- offline and to the background keep the choice: busy holds until changed. Users without a choice get an empty one
  -- first, so that one statement locks all rows that others can see, in order, and two batches never deadlock.
  if 'status' = any (p_kind) then
    if p_status && array['busy', 'dnd', 'invisible']::rollcall.presence_status[] or true = any (p_set_custom) then
      insert into rollcall.presence_choices (user_id)
        select o.user_id
        from unnest(p_kind, p_user, p_status, p_set_custom, p_custom) as o (kind, user_id, status, set_custom, custom)
        where o.kind = 'status'
          and (o.status in ('busy', 'dnd', 'invisible') or o.set_custom and o.custom is not null)
          and o.user_id not in (select c.user_id from rollcall.presence_choices c where c.user_id = any (v_users))
        order by o.user_id
        on conflict (user_id) do nothing;
    end if;
    if exists (select from rollcall.presence_choices c where c.user_id = any (v_users)) then
      update rollcall.presence_choices c set
          chosen = case
            when o.status in ('busy', 'dnd', 'invisible') then o.status
            when o.keeps_choice then c.chosen end,
          custom_status = case when o.set_custom then o.custom else c.custom_status end,
          custom_status_expires_at = case when o.set_custom then o.custom_expires else c.custom_status_expires_at end
        from (
          select o.user_id, o.status, o.set_custom, o.custom, case when o.custom is not null then o.custom_expires end
            as custom_expires, o.status = 'offline' or o.status = 'away' and o.background is not null as keeps_choice
          from unnest(p_kind, p_user, p_status, p_set_custom, p_custom, p_custom_expires, p_background)
            as o (kind, user_id, status, set_custom, custom, custom_expires, background)
          where o.kind = 'status'
          order by o.user_id
        ) o
        where c.user_id = o.user_id and c.user_id = any (v_users)
          and (
            not o.keeps_choice and c.chosen is distinct from case when o.status in ('busy', 'dnd', 'invisible')
              then o.status end
            or o.set_custom and (c.custom_status, c.custom_status_expires_at) is distinct
              from (o.custom, o.custom_expires)
          );
    end if;
  end if;

  -- A write without a device id applies to all live devices, or to `default`, which then replaces another offline
  -- device if the quota is reached: from here on each row names its device.
  -- Neither a heartbeat nor a repeated `offline` brings back a device that signed off.
  if v_unnamed then
    select
      array_agg(o.kind), array_agg(o.user_id), array_agg(coalesce(o.device_id, target.device_id)), array_agg(o.node),
      array_agg(o.age), array_agg(o.active), array_agg(o.status), array_agg(o.activity), array_agg(o.page),
      array_agg(o.background)
    into p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page, p_background
    from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page, p_background)
      as o (kind, user_id, device_id, node, age, active, status, activity, page, background)
    left join lateral (
      select d.device_id from rollcall.presence_devices d
      where o.device_id is null and d.user_id = o.user_id and d.live
      union all
      select 'default'
      where o.device_id is null
        and not exists (select from rollcall.presence_devices d where d.user_id = o.user_id and d.live)
        and case o.kind
          when 'status' then o.status <> 'offline'
            or not exists (select from rollcall.presence_devices d where d.user_id = o.user_id)
          when 'heartbeat' then not coalesce((
            select d.signed_off_at is not null from rollcall.presence_devices d
            where d.user_id = o.user_id order by d.last_heartbeat_at desc limit 1), false)
          else true end
    ) target on true
    where coalesce(o.device_id, target.device_id) is not null;
  end if;

  -- New devices start as offline. A statement that inserts no row would still fire its triggers.
  if v_new_users is not null or v_unnamed then
    select array_agg(o.user_id), array_agg(o.device_id) into v_new_users, v_new_devices
    from unnest(p_kind, p_user, p_device) as o (kind, user_id, device_id)
    where o.kind in ('status', 'connect', 'heartbeat')
      and (o.user_id, o.device_id) not in (
        select d.user_id, d.device_id from rollcall.presence_devices d where d.user_id = any (v_users));
    if v_new_users is not null then
      insert into rollcall.presence_devices (user_id, device_id, status)
        select o.user_id, o.device_id, 'offline' from unnest(v_new_users, v_new_devices) as o (user_id, device_id)
        order by o.user_id, o.device_id
        on conflict (user_id, device_id) do nothing;
    end if;
  end if;

  update rollcall.presence_devices d set
      nodes = case o.kind
        when 'connect' then case when o.node = any (d.nodes) then d.nodes else d.nodes || o.node end
        when 'disconnect' then array_remove(d.nodes, o.node)
        else d.nodes end,
      status = case o.kind
        when 'status' then o.reported
        when 'disconnect' then case when d.nodes = array[o.node] and d.background_seconds is null then 'offline'
          else d.status end
        when 'silent' then case
          when d.nodes = array[o.node] and coalesce(o.age >= d.background_seconds, true) then 'offline'
          else d.status end
        when 'connect' then case
          when o.active and d.background_seconds is not null then 'online'
          when d.live or d.signed_off_at is not null and o.node = any (d.nodes) and not o.active then d.status
          when d.background_seconds is not null then 'away' else 'online' end
        else case
          when o.active and d.background_seconds is not null then 'online'
          when d.live or d.signed_off_at is not null then d.status
          when d.background_seconds is not null then 'away' else 'online' end
        end,
      background_seconds = case
        when o.kind = 'status' then o.background
        when o.active and o.kind in ('connect', 'heartbeat') then null
        else d.background_seconds end,
      signed_off_at = case
        when o.kind = 'status' then case when o.reported = 'offline' then v_now end
        when o.kind = 'connect' and (o.active or not o.node = any (d.nodes)) then null
        else d.signed_off_at end,
      session_started_at = case
        when not d.live and (o.kind = 'status' and o.reported <> 'offline' or o.kind in ('connect', 'heartbeat')
          and (d.signed_off_at is null or o.kind = 'connect' and (o.active or not o.node = any (d.nodes))))
        then v_now else d.session_started_at end,
      -- The last moment at which it was live; a device that stays offline keeps it.
      last_heartbeat_at = case
        when o.kind in ('disconnect', 'silent') then
          case when d.live then greatest(d.last_heartbeat_at, v_now - o.age * interval '1 second')
            else d.last_heartbeat_at end
        when d.live or o.kind = 'status' and o.reported <> 'offline' or o.kind in ('connect', 'heartbeat')
          and (d.signed_off_at is null or o.kind = 'connect' and (o.active or not o.node = any (d.nodes)))
        then v_now else d.last_heartbeat_at end,
      last_active_at = case
        when o.kind = 'status' or o.kind = 'heartbeat' and o.active
          or o.kind = 'connect' and (o.active or not (d.live and o.node = any (d.nodes)))
        then v_now else d.last_active_at end,
      idle_since = case
        when o.kind = 'status' or o.kind = 'heartbeat' and o.active
          or o.kind = 'connect' and (o.active or not (d.live and o.node = any (d.nodes)))
        then null else d.idle_since end,
      activity = case when o.kind = 'status' and o.activity is not null then nullif(o.activity, '') else d.activity end,
      current_page = case when o.kind = 'status' and o.page is not null then nullif(o.page, '') else d.current_page end
    from (
      select o.*, (case when o.status in ('offline', 'away') then o.status when o.background is not null then 'away'
        else 'online' end)::rollcall.presence_status as reported
      from unnest(p_kind, p_user, p_device, p_node, p_age, p_active, p_status, p_activity, p_page, p_background)
        as o (kind, user_id, device_id, node, age, active, status, activity, page, background)
      order by o.user_id, o.device_id
    ) o
    where d.user_id = o.user_id and d.device_id = o.device_id and d.user_id = any (v_users);

  perform rollcall_internal.refresh_faces(v_users);
  if v_new_users is not null then
    v_refused := rollcall_internal.replace_offline_devices(v_new_users, v_new_devices);
    -- Another session added devices meanwhile.
    if v_refused <> '{}' then
      delete from rollcall.presence_devices d using unnest(v_new_users, v_new_devices) as o (user_id, device_id)
        where d.user_id = o.user_id and d.device_id = o.device_id and d.user_id = any (v_refused);
      perform rollcall_internal.refresh_faces(v_refused);
      v_users := array(select u from unnest(v_users) u where u <> all (v_refused));
    end if;
  end if;
  perform set_config('rollcall.batch', v_batch, true);

  return query select * from rollcall.user_presence p where p.user_id = any (v_users) and p.face = 'trusted';
end
$$;
comment on function rollcall_internal.write_presence is
  'Applies a batch of presence writes; returns the trusted faces.';

-- Invoker: reads nothing.
create function rollcall.check_background(p_status rollcall.presence_status, p_background int) returns void
  language plpgsql immutable security invoker set search_path = ''
as $$
begin
  if p_background is not null and p_status in ('online', 'offline') then
    raise exception 'p_background: only with status away, busy, dnd or invisible'
      using errcode = 'invalid_parameter_value';
  end if;
end
$$;
comment on function rollcall.check_background is
  'Raises an error if a device cannot be in the background with this status.';
grant execute on function rollcall.check_background to authenticated, service_role;

-- For DBAs and services.
-- Definer: writes devices and choices of any user; service_role only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.set_status(
  p_user uuid, p_status rollcall.presence_status, p_device text default null, p_background int default null
) returns setof rollcall.user_presence
  language plpgsql volatile security definer set lock_timeout = '2s'
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall.check_background(p_status, p_background);
  perform rollcall_internal.write_presence(
    array['status'], array[p_user], array[p_device], array[null::uuid], array[0::double precision], array[true],
    array[p_status], array[false], array[null::text], array[null::timestamptz], array[null::text], array[null::text],
    array[p_background]);
  if not found then
    perform rollcall_internal.raise_too_many_devices();
  end if;
  -- From the table: a plan on a function's rows would not notice a new column.
  return query select p.* from rollcall.user_presence p where p.user_id = p_user and p.face = 'trusted';
end
$$;
comment on function rollcall.set_status is
  'Sets the status of a user, or of one device; returns the trusted face. With p_background the device stays away for '
  'that many seconds after its socket closed.';
grant execute on function rollcall.set_status to service_role;

-- After an expired lease other nodes may have swept the node's devices, so it must report all its sockets again.
-- Definer: only the server writes nodes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.renew_lease(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  update rollcall.presence_nodes set renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + p_lease
    where id = p_node and lease_expires_at > clock_timestamp();
  if found then
    return true;
  end if;
  insert into rollcall.presence_nodes (id, lease_expires_at) values (p_node, clock_timestamp() + p_lease)
    on conflict (id) do update set renewed_at = clock_timestamp(), lease_expires_at = excluded.lease_expires_at;
  return false;
end
$$;
comment on function rollcall_internal.renew_lease is
  'Takes or renews the lease of a node; false when it had none or it had expired.';

-- Where other nodes live, the lease is shortened to the grace period: devices that reconnect elsewhere within it never
-- go offline, the others are swept. Otherwise the devices go offline at once, at most 20,000 in one call; the rest is
-- swept.
-- Definer: see renew_lease.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.release_lease(p_node uuid, p_grace interval default interval '0') returns void
  language plpgsql volatile security definer
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_users uuid[];
begin
  perform rollcall_internal.check_search_path();
  if exists (select from rollcall.presence_nodes n where n.id <> p_node and n.lease_expires_at > v_now) then
    update rollcall.presence_nodes set lease_expires_at = least(lease_expires_at, v_now + p_grace) where id = p_node;
    return;
  end if;
  perform set_config('rollcall.batch', 'on', true);
  with held as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    where d.nodes <> '{}' and p_node = any (d.nodes)
    order by d.user_id, d.device_id
    limit 20000
    for update
  ),
  dropped as (
    update rollcall.presence_devices d set
        nodes = array_remove(d.nodes, p_node),
        status = case when d.nodes = array[p_node] and d.background_seconds is null then 'offline' else d.status end,
        last_heartbeat_at = case when d.live then v_now else d.last_heartbeat_at end
      from held h
      where d.user_id = h.user_id and d.device_id = h.device_id
      returning d.user_id
  )
  select array_agg(d.user_id) into v_users from dropped d;
  -- The sweep treats the remaining devices as live until now.
  update rollcall.presence_nodes set renewed_at = v_now, lease_expires_at = v_now where id = p_node;
  if coalesce(cardinality(v_users), 0) < 20000 then
    delete from rollcall.presence_nodes where id = p_node;
  end if;
  perform rollcall_internal.refresh_faces(v_users);
  perform set_config('rollcall.batch', v_batch, true);
end
$$;
comment on function rollcall_internal.release_lease is 'Releases the lease of a node that stops.';

-- Any node may run it, as may pg_cron or the Edge Function; concurrent calls return at once. It skips locked rows and
-- ends at most p_limit of each kind; the next call continues. Returns how many of each kind it ended.
-- Definer: acts on rows of all users; service_role only.
-- Over 60 lines: five kinds of expiry that lock in one order and refresh faces once.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.sweep(
  p_idle_after interval default interval '300 seconds',
  p_silent_after interval default interval '25 seconds',
  p_typing boolean default true,
  p_limit int default 10000
) returns table (nodes bigint, devices bigint, idle bigint, custom_statuses bigint, typing bigint)
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_living uuid[];
  v_users uuid[] := '{}';
  v_found uuid[];
begin
  perform rollcall_internal.check_search_path();
  nodes := 0; devices := 0; idle := 0; custom_statuses := 0; typing := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall.sweep', 0)) then
    return next;
    return;
  end if;
  perform set_config('rollcall.batch', 'on', true);

  -- Each user's row in user_last_seen is locked too; otherwise the refresh below could wait for its holder.
  with expired as (
    select c.user_id from rollcall.presence_choices c
    join rollcall.user_last_seen l on l.user_id = c.user_id
    where c.custom_status_expires_at <= v_now
    order by c.user_id limit p_limit
    for update skip locked
  ),
  ended as (
    update rollcall.presence_choices c set custom_status = null, custom_status_expires_at = null
    from expired e where c.user_id = e.user_id
    returning c.user_id
  )
  select array_agg(e.user_id), count(*) into v_found, custom_statuses from ended e;
  v_users := v_users || v_found;

  -- A node is dead when its lease has expired or does not exist. A node that recovers finds its lease expired and
  -- reports its sockets again.
  v_living := array(select n.id from rollcall.presence_nodes n where n.lease_expires_at >= v_now);
  with lost as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    join rollcall.user_last_seen l on l.user_id = d.user_id
    where d.nodes <> '{}' and not d.nodes <@ v_living
    order by d.user_id, d.device_id limit p_limit
    for update skip locked
  ),
  dropped as (
    update rollcall.presence_devices d set
        nodes = array(select held.node from unnest(d.nodes) as held (node) where held.node = any (v_living)),
        status = case when d.nodes && v_living or d.background_seconds is not null then d.status else 'offline' end,
        last_heartbeat_at = case
          when d.live then greatest(d.last_heartbeat_at,
            (select max(n.renewed_at) from rollcall.presence_nodes n where n.id = any (d.nodes)
              and n.id <> all (v_living)))
          else d.last_heartbeat_at end
      from lost l
      where d.user_id = l.user_id and d.device_id = l.device_id
      returning d.user_id
  )
  select array_agg(d.user_id), count(*) into v_found, devices from dropped d;
  v_users := v_users || v_found;
  -- A lease that expired just now has not been swept yet.
  if devices < p_limit then
    delete from rollcall.presence_nodes n where n.lease_expires_at < v_now and n.id <> all (v_living)
      and not exists (select from rollcall.presence_devices d where d.nodes <> '{}' and n.id = any (d.nodes));
    get diagnostics nodes = row_count;
  end if;

  with silent as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    join rollcall.user_last_seen l on l.user_id = d.user_id
    where d.live and d.nodes = '{}' and d.last_heartbeat_at < v_now
      - case when d.background_seconds is null then p_silent_after else d.background_seconds * interval '1 second' end
    order by d.user_id, d.device_id limit p_limit
    for update skip locked
  ),
  dropped as (
    update rollcall.presence_devices d set status = 'offline'
      from silent s where d.user_id = s.user_id and d.device_id = s.device_id
      returning d.user_id
  )
  select array_agg(d.user_id), devices + count(*) into v_found, devices from dropped d;
  v_users := v_users || v_found;

  with quiet as (
    select d.user_id, d.device_id from rollcall.presence_devices d
    join rollcall.user_last_seen l on l.user_id = d.user_id
    where d.live and d.idle_since is null and d.last_active_at < v_now - p_idle_after
    order by d.user_id, d.device_id limit p_limit
    for update skip locked
  ),
  idled as (
    update rollcall.presence_devices d set idle_since = date_trunc('milliseconds', d.last_active_at)
      from quiet q where d.user_id = q.user_id and d.device_id = q.device_id
      returning d.user_id
  )
  select array_agg(i.user_id), count(*) into v_found, idle from idled i;
  v_users := v_users || v_found;

  perform rollcall_internal.refresh_faces(v_users);
  perform set_config('rollcall.batch', v_batch, true);

  if p_typing then
    with ended as (
      select t.conversation_id, t.user_id from rollcall.typing_indicators t
      where t.expires_at <= v_now limit p_limit
      for update skip locked
    )
    delete from rollcall.typing_indicators t using ended e
      where t.conversation_id = e.conversation_id and t.user_id = e.user_id;
    get diagnostics typing = row_count;
  end if;

  delete from rollcall_internal.visibility_log l where l.noted_at < v_now - interval '2 minutes';
  -- Without an event trigger nothing else notices that a table was dropped.
  perform rollcall_internal.refresh_own_tables();
  perform rollcall_internal.purge_expired();
  return next;
end
$$;
comment on function rollcall.sweep is
  'Ends expired presence: devices of dead nodes or without heartbeats, idle devices, custom statuses, typing.';
grant execute on function rollcall.sweep to service_role;

-- The caller's own presence -------------------------------------------------------------------------------------------

-- Presence without the server: for PostgREST, Edge Functions and psql. Each function acts for auth.uid() only.

-- A write that the caller made under their own policies is the condition for what the definer functions below do. Its
-- row has the number of the running transaction or subtransaction, which the update of the other row tells.
-- Definer: locks a row that users may not write; called by definer functions that act for auth.uid().
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.require_written_device(p_user uuid, p_device text) returns void
  language plpgsql volatile security definer
as $$
declare
  v_batch constant text := coalesce(current_setting('rollcall.batch', true), '');
  v_running xid;
begin
  perform rollcall_internal.check_search_path();
  -- A transaction without a number has written nothing. Refusing it writes nothing either.
  if pg_current_xact_id_if_assigned() is not null then
    perform set_config('rollcall.batch', 'on', true);
    insert into rollcall.user_last_seen as l (user_id) values (p_user)
      on conflict (user_id) do update set last_seen = l.last_seen
      returning xmin into v_running;
    perform set_config('rollcall.batch', v_batch, true);
  end if;
  perform from rollcall.presence_devices d
    where d.user_id = p_user and d.device_id = p_device and d.xmin = v_running;
  if not found then
    raise exception 'the policies of rollcall.presence_devices do not let this user write the device'
      using errcode = 'insufficient_privilege';
  end if;
end
$$;
comment on function rollcall_internal.require_written_device is
  'Raises an error unless the running transaction has written this device.';

-- Changes nothing: row-level security, grants and triggers decide whether the caller may write the device. Names a
-- column that no trigger limits.
-- Invoker: that is its purpose.
create function rollcall.touch_device(p_device text, p_create boolean) returns boolean
  language plpgsql volatile security invoker
as $$
declare
  v_me constant uuid := auth.uid();
begin
  if v_me is null then
    raise exception 'the claims have no user: sub is required' using errcode = 'insufficient_privilege';
  end if;
  update rollcall.presence_devices d set device_name = d.device_name
    where d.user_id = v_me and d.device_id = p_device;
  if found then
    return true;
  end if;
  if p_create then
    -- A row that the policies hide is in conflict, and the caller has not written it.
    insert into rollcall.presence_devices (user_id, device_id, status) values (v_me, p_device, 'offline')
      on conflict (user_id, device_id) do nothing;
    return found;
  end if;
  if exists (select from rollcall.presence_devices d where d.user_id = v_me and d.device_id = p_device) then
    raise exception 'the policies of rollcall.presence_devices do not let this user write the device'
      using errcode = 'insufficient_privilege';
  end if;
  return false;
end
$$;
comment on function rollcall.touch_device is
  'Writes one of the callers devices without a change, and creates it if asked to; returns whether it was written.';
grant execute on function rollcall.touch_device to authenticated, service_role;

-- Definer: sets columns that only the server writes; acts for auth.uid() only, on a device that the caller has written.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.record_heartbeat(p_device text, p_active boolean) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_me constant uuid := auth.uid();
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.require_written_device(v_me, p_device);
  perform rollcall_internal.write_presence(
    array['heartbeat'], array[v_me], array[p_device], array[null::uuid], array[0::double precision], array[p_active],
    array[null::rollcall.presence_status], array[false], array[null::text], array[null::timestamptz], array[null::text],
    array[null::text], array[null::int]);
  if not found then
    perform rollcall_internal.raise_too_many_devices();
  end if;
  return (select d.live from rollcall.presence_devices d where d.user_id = v_me and d.device_id = p_device);
end
$$;
comment on function rollcall.record_heartbeat is 'Second half of heartbeat_mine.';
grant execute on function rollcall.record_heartbeat to authenticated;

-- With p_active the device also counts as in use. A device that signed off stays off. Writes nothing within five
-- seconds of the last heartbeat, or for a device that stays off: honest clients send one every ten seconds.
-- Invoker: policies of presence_devices decide whether the caller may write the device.
create function rollcall.heartbeat_mine(p_device text default 'default', p_active boolean default false) returns boolean
  language plpgsql volatile security invoker set lock_timeout = '2s'
as $$
declare
  v_recent constant timestamptz := clock_timestamp() - interval '5 seconds';
  v_device record;
begin
  select d.live, d.signed_off_at is not null as signed_off,
      d.last_heartbeat_at > v_recent and (not p_active or d.last_active_at > v_recent and d.idle_since is null)
        as repeated
    into v_device
    from rollcall.presence_devices d where d.user_id = auth.uid() and d.device_id = p_device;
  if v_device.live and v_device.repeated or not v_device.live and v_device.signed_off then
    return v_device.live;
  end if;
  perform rollcall.touch_device(p_device, true);
  return rollcall.record_heartbeat(p_device, p_active);
end
$$;
comment on function rollcall.heartbeat_mine is
  'Keeps one of the callers devices alive and creates it if needed; returns whether it is live.';
grant execute on function rollcall.heartbeat_mine to authenticated;

-- A custom status is set only with p_set_custom; an activity or page that is null stays, an empty one is cleared. A
-- repeat within five seconds changes nothing; every other call counts against the quotas of status updates and writes.
-- Invoker: writes the caller's rows under their policies and grants.
-- Over 60 lines: the check for a repeat compares every field that the writes below set.
create function rollcall.set_my_status(
  p_status rollcall.presence_status, p_device text default 'default', p_set_custom boolean default false,
  p_custom text default null, p_custom_expires timestamptz default null, p_activity text default null,
    p_page text default null, p_background int default null
) returns setof rollcall.user_presence
  language plpgsql volatile security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_choice constant rollcall.presence_status := case when p_status in ('busy', 'dnd', 'invisible') then p_status end;
  v_reported constant rollcall.presence_status := case
    when p_status in ('away', 'offline') then p_status when p_background is not null then 'away' else 'online' end;
  v_keeps_choice constant boolean := p_status = 'offline' or p_status = 'away' and p_background is not null;
begin
  perform rollcall.check_background(p_status, p_background);
  if v_me is null then
    raise exception 'the claims have no user: sub is required' using errcode = 'insufficient_privilege';
  end if;
  if exists (
    select from rollcall.presence_devices d
    left join rollcall.presence_choices c on c.user_id = d.user_id
    where d.user_id = v_me and d.device_id = p_device
      and d.status = v_reported and (p_status = 'offline' or d.background_seconds is not distinct from p_background)
      and case when p_status = 'offline' then d.signed_off_at
        else d.last_active_at end > clock_timestamp() - interval '5 seconds'
      and (p_status = 'offline' or d.live and d.idle_since is null and c.chosen is not distinct from v_choice)
      and (not p_set_custom or (c.custom_status, c.custom_status_expires_at)
        is not distinct from (p_custom, case when p_custom is not null then p_custom_expires end))
      and (p_activity is null or d.activity is not distinct from nullif(p_activity, ''))
      and (p_page is null or d.current_page is not distinct from nullif(p_page, ''))
  ) then
    return query select p.* from rollcall.user_presence p where p.user_id = v_me and p.face = 'trusted';
    return;
  end if;
  perform rollcall.consume_status_quota();
  -- The choice first, as in every writer; going offline keeps it.
  if v_choice is not null or p_set_custom or exists (select from rollcall.presence_choices c
    where c.user_id = v_me) then
    insert into rollcall.presence_choices as c (user_id, chosen, custom_status, custom_status_expires_at)
      values (v_me, v_choice, case when p_set_custom then p_custom end,
        case when p_set_custom and p_custom is not null then p_custom_expires end)
      on conflict (user_id) do update set
        chosen = case when v_keeps_choice then c.chosen else excluded.chosen end,
        custom_status = case when p_set_custom then excluded.custom_status else c.custom_status end,
        custom_status_expires_at = case when p_set_custom then excluded.custom_status_expires_at
          else c.custom_status_expires_at end;
  end if;
  if p_status = 'offline' then
    update rollcall.presence_devices d set status = 'offline' where d.user_id = v_me and d.device_id = p_device;
  else
    insert into rollcall.presence_devices as d (user_id, device_id, status, activity, current_page, background_seconds)
      values (v_me, p_device, v_reported, nullif(p_activity, ''), nullif(p_page, ''), p_background)
      on conflict (user_id, device_id) do update set
        status = excluded.status,
        background_seconds = excluded.background_seconds,
        activity = case when p_activity is null then d.activity else excluded.activity end,
        current_page = case when p_page is null then d.current_page else excluded.current_page end;
    perform rollcall.heartbeat_mine(p_device, p_background is null);
  end if;
  return query select p.* from rollcall.user_presence p where p.user_id = v_me and p.face = 'trusted';
end
$$;
comment on function rollcall.set_my_status is
  'Sets the callers status on a device; returns the callers trusted face. With p_background the device stays away for '
  'that many seconds after its socket closed.';
grant execute on function rollcall.set_my_status to authenticated;

-- Offline at once; only a new connection or status brings the device back, no late heartbeat.
-- Definer: sets columns that only the server writes; service_role only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.sign_off(p_user uuid, p_device text) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  perform rollcall_internal.check_search_path();
  update rollcall.presence_devices d set
      -- A connected device was live until now; one on heartbeats until the last heartbeat.
      last_heartbeat_at = case when d.status <> 'offline' and d.nodes <> '{}' then v_now else d.last_heartbeat_at end,
      status = 'offline', nodes = '{}', signed_off_at = v_now, background_seconds = null
    where d.user_id = p_user and d.device_id = p_device;
  if not found then
    return false;
  end if;
  perform rollcall_internal.post_to_outbox('sign_off', array[p_user], json_build_object('device_id', p_device));
  return true;
end
$$;
comment on function rollcall.sign_off is
  'Signs a device off and closes its sockets; false when there is no such device.';
grant execute on function rollcall.sign_off to service_role;

-- Definer: see sign_off; acts for auth.uid() only, on a device that the caller has written.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.record_sign_off(p_device text) returns boolean
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.require_written_device(auth.uid(), p_device);
  return rollcall.sign_off(auth.uid(), p_device);
end
$$;
comment on function rollcall.record_sign_off is 'Second half of sign_off_mine.';
grant execute on function rollcall.record_sign_off to authenticated, service_role;

-- Writes nothing if the device is signed off and has no socket.
-- Invoker: policies of presence_devices decide whether the caller may write the device.
create function rollcall.sign_off_mine(p_device text) returns boolean
  language plpgsql volatile security invoker
as $$
begin
  if exists (
    select from rollcall.presence_devices d where d.user_id = auth.uid() and d.device_id = p_device
      and not d.live and d.signed_off_at is not null and d.nodes = '{}')
  then
    return true;
  end if;
  return rollcall.touch_device(p_device, false) and rollcall.record_sign_off(p_device);
end
$$;
comment on function rollcall.sign_off_mine is 'Signs off one of the callers devices and closes its sockets.';
grant execute on function rollcall.sign_off_mine to authenticated, service_role;

-- Invoker: must not return what the caller may not see, such as lists of other users. Table names come from
-- personal_data, which only migrations write.
create function rollcall.export_mine() returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_table record;
  v_rows jsonb;
  v_all jsonb := '{}';
begin
  for v_table in
    select d.relation, c.relname as name, string_agg(format('t.%I = $1', d.column_name), ' or ') as mine,
      (
        select string_agg(format(' || jsonb_build_object(%1$L, rollcall.iso_time(t.%1$I))', a.attname), '')
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.atttypid = 'timestamptz'::regtype and a.attnum > 0 and not a.attisdropped
      ) as times
    from rollcall.personal_data d
    join pg_catalog.pg_class c on c.oid = d.relation
    where d.exported
    group by d.relation, c.relname, c.oid
    order by c.relname
  loop
    execute format('select coalesce(jsonb_agg(to_jsonb(t)%s), ''[]'') from %s t where %s', v_table.times,
        v_table.relation, v_table.mine)
      into v_rows using v_me;
    v_all := v_all || jsonb_build_object(v_table.name, v_rows);
  end loop;
  return v_all;
end
$$;
comment on function rollcall.export_mine is
  'Returns all data kept about the caller, by table, as far as row-level security shows it.';
grant execute on function rollcall.export_mine to authenticated, service_role;

-- Afterwards the user reads as never seen. Deletes messages of models to the user too.
-- Definer: deletes rows that users may only read; service_role only. Table names come from personal_data.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.forget(p_user uuid) returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_column record;
  v_count bigint;
  v_all jsonb := '{}';
begin
  perform rollcall_internal.check_search_path();
  perform set_config('rollcall.batch', 'on', true);
  for v_column in
    select d.relation, c.relname as name, d.column_name
    from rollcall.personal_data d
    join pg_catalog.pg_class c on c.oid = d.relation
    where d.erase_order is not null
    order by d.erase_order
  loop
    execute format('delete from %s t where t.%I = $1', v_column.relation, v_column.column_name) using p_user;
    get diagnostics v_count = row_count;
    v_all := v_all || jsonb_build_object(v_column.name, coalesce((v_all ->> v_column.name)::bigint, 0) + v_count);
  end loop;
  -- Other conversations belong to their other participants too.
  delete from rollcall.conversations c where c.created_by = p_user
    and not exists (
      select from rollcall.conversation_participants p where p.conversation_id = c.id and p.user_id <> p_user);
  get diagnostics v_count = row_count;
  v_all := v_all || jsonb_build_object('conversations', v_count);
  perform set_config('rollcall.batch', 'off', true);
  -- A user that came back meanwhile gets a face again.
  perform rollcall_internal.refresh_faces(array[p_user]);
  perform rollcall_internal.post_to_outbox('sign_off', array[p_user], '{}');
  return v_all;
end
$$;
comment on function rollcall.forget is
  'Erases what is kept about a user and closes their sockets; returns how many rows were deleted, by table. Relations, '
  'memberships and shared conversations remain.';
grant execute on function rollcall.forget to service_role;

-- Definer: see forget; acts for auth.uid() only, after the caller has deleted what users may delete.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.record_forgetting() returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_me constant uuid := auth.uid();
begin
  perform rollcall_internal.check_search_path();
  if exists (select from rollcall.presence_devices d where d.user_id = v_me)
    or exists (select from rollcall.presence_choices c where c.user_id = v_me)
    or exists (select from rollcall.presence_settings s where s.user_id = v_me)
    or exists (select from rollcall.presence_visibility_list l where l.user_id = v_me)
  then
    raise exception 'policies do not let this user delete their presence'
      using errcode = 'insufficient_privilege',
        hint = 'An operator erases the data of a user with rollcall.forget().';
  end if;
  return rollcall.forget(v_me);
end
$$;
comment on function rollcall.record_forgetting is 'Second half of forget_me.';
grant execute on function rollcall.record_forgetting to authenticated, service_role;

-- Invoker: policies decide whether the caller may delete the rows that users write themselves.
create function rollcall.forget_me() returns jsonb
  language plpgsql volatile security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_table text;
  v_count bigint;
  v_deleted jsonb := '{}';
  v_all jsonb;
begin
  perform set_config('rollcall.batch', 'on', true);
  foreach v_table in array array['presence_devices', 'presence_choices', 'presence_settings',
    'presence_visibility_list']
  loop
    execute format('delete from rollcall.%I t where t.user_id = $1', v_table) using v_me;
    get diagnostics v_count = row_count;
    v_deleted := v_deleted || jsonb_build_object(v_table, v_count);
  end loop;
  perform set_config('rollcall.batch', 'off', true);
  v_all := rollcall.record_forgetting();
  return v_all || (
    select jsonb_object_agg(d.key, d.value::bigint + coalesce((v_all ->> d.key)::bigint, 0))
    from jsonb_each_text(v_deleted) d);
end
$$;
comment on function rollcall.forget_me is 'Erases what is kept about the caller; see forget.';
grant execute on function rollcall.forget_me to authenticated, service_role;

-- Deleted accounts ----------------------------------------------------------------------------------------------------

create table rollcall_internal.deleted_accounts (
  user_id uuid primary key,
  run_after timestamptz not null default now()
);
comment on table rollcall_internal.deleted_accounts is 'Deleted accounts whose data a server is to erase.';
-- No policies: only the server uses it.
alter table rollcall_internal.deleted_accounts enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.deleted_accounts', 'user_id', false, null, 'ids only, deleted with the data of the account');

-- The deletion does not wait for the erasure. The argument is the column with the user ID.
-- Definer: called by whoever deletes accounts.
create function rollcall_internal.on_accounts_deleted() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into rollcall_internal.deleted_accounts (user_id)
    select (to_jsonb(a) ->> tg_argv[0])::uuid from old_rows a
    on conflict do nothing;
  return null;
end
$$;
comment on function rollcall_internal.on_accounts_deleted is
  'Trigger function: notes accounts whose data is to be erased.';

-- Invoker: creates a trigger, for which the caller needs the right on the table.
create function rollcall.watch_accounts(p_table regclass, p_column text default 'id') returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
begin
  execute format('create or replace trigger rollcall_accounts_deleted after delete on %s referencing old table as '
    'old_rows for each statement execute function rollcall_internal.on_accounts_deleted(%L)', p_table, p_column);
end
$$;
comment on function rollcall.watch_accounts is
  'From now on, deleting a row of this table of accounts erases the data of the user whose ID is in the column.';

-- Definer: for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.erase_deleted_accounts(p_limit int) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_user uuid;
  v_count bigint := 0;
begin
  perform rollcall_internal.check_search_path();
  for v_user in
    select a.user_id from rollcall_internal.deleted_accounts a where a.run_after <= clock_timestamp()
    order by a.run_after, a.user_id limit p_limit for update skip locked
  loop
    begin
      delete from rollcall.contacts c where v_user in (c.requester_id, c.addressee_id);
      delete from rollcall.team_members m where m.user_id = v_user;
      delete from rollcall.conversation_participants p where p.user_id = v_user;
      perform rollcall.forget(v_user);
      delete from rollcall_internal.deleted_accounts a where a.user_id = v_user;
      v_count := v_count + 1;
    exception when others then
      -- Such as a deadlock with a request that is still running.
      raise warning 'erasing the data of a deleted account failed, trying again later: %', sqlerrm;
      update rollcall_internal.deleted_accounts a set run_after = clock_timestamp() + interval '5 minutes'
        where a.user_id = v_user;
    end;
  end loop;
  return v_count;
end
$$;
comment on function rollcall_internal.erase_deleted_accounts is
  'Erases the data of at most p_limit deleted accounts; returns of how many.';

-- Context signals -----------------------------------------------------------------------------------------------------

-- Signals on the device's row, from which context is prepared ahead and which the user's other devices show. They
-- change no face and are sent to no other user.
-- The version is a time, because a sequence would count the changes of other users.
-- Definer: called from triggers of any writer; writes only the new row.
create function rollcall_internal.set_context_version() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  new.context_version := greatest(old.context_version + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
  new.context_updated_at := date_trunc('milliseconds', clock_timestamp());
  if new.last_navigation_path is not null
    and (tg_op = 'INSERT' or new.last_navigation_path is distinct from old.last_navigation_path)
  then
    select jsonb_agg(step.place order by step.number) into new.navigation_history
    from (
      select places.place, places.number
      from jsonb_array_elements(new.navigation_history || jsonb_build_array(
          jsonb_build_object('path', new.last_navigation_path,
            'at', rollcall.iso_time(new.context_updated_at))))
        with ordinality as places (place, number)
      order by places.number desc
      limit 10
    ) step;
  end if;
  return new;
end
$$;
comment on function rollcall_internal.set_context_version is
  'Trigger function: numbers and dates a change of context signals, and extends the navigation history.';

-- One notification per row: batches (heartbeats, statuses, connections) do not touch these columns and do not fire it.
-- Definer: called from triggers of any writer.
create function rollcall_internal.notify_context() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_nonce constant text := rollcall_internal.notification_nonce();
begin
  perform rollcall_internal.notify('rollcall_context',
    (rollcall_internal.mask_ids(v_nonce, array[new.user_id]))[1] || ':' || new.context_version, v_nonce);
  return null;
end
$$;
comment on function rollcall_internal.notify_context is 'Trigger function: notifies nodes of changed context signals.';

create trigger set_context_version_of_new before insert on rollcall.presence_devices
  for each row
  when (num_nonnulls(new.active_conversation_id, new.active_notebook_id, new.active_persona_id,
      new.last_navigation_path, new.local_time) > 0 or new.visible_conversation_ids <> '{}')
  execute function rollcall_internal.set_context_version();
create trigger set_context_version before update of active_conversation_id, visible_conversation_ids,
  active_notebook_id,
    active_persona_id, last_navigation_path, local_time on rollcall.presence_devices
  for each row
  when ((old.active_conversation_id, old.visible_conversation_ids, old.active_notebook_id, old.active_persona_id,
      old.last_navigation_path, old.local_time)
    is distinct from (new.active_conversation_id, new.visible_conversation_ids, new.active_notebook_id,
      new.active_persona_id, new.last_navigation_path, new.local_time))
  execute function rollcall_internal.set_context_version();
create trigger notify_context_of_new after insert on rollcall.presence_devices
  for each row when (new.context_version is not null) execute function rollcall_internal.notify_context();
create trigger notify_context after update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on rollcall.presence_devices
  for each row when (old.context_version is distinct from new.context_version)
  execute function rollcall_internal.notify_context();

-- schemas/45_visibility.sql ------------------------------------------------------------------------------------------

-- How the server queries row-level security for many viewers, which tables visibility depends on, and how DBAs look at
-- it. Nothing here decides who sees whom.

-- For each viewer, as that viewer: which of its relations and followed users it sees. With p_full[i] all of them,
-- otherwise those in p_scope. A policy that raises for one viewer yields one row with `error` for that viewer only.
--   p_follow and p_scope hold the viewers' lists one after the other; p_*_end[i] is where the i-th list ends.
-- Returns one row per viewer and candidate (face is null where the candidate is not visible), and one row with a
-- conversation_id per user that the viewer may see type.
-- Invoker: it assumes the viewers' roles, which only the server's login role may. Without a search_path of its own,
-- because it evaluates users' policies: each viewer's role sets its own.
-- Over 60 lines: two result sets and the error row share the role.
create function rollcall_internal.visible_presences(
  p_role text[], p_claims text[], p_full boolean[],
  p_follow uuid[], p_follow_end int[], p_scope uuid[], p_scope_end int[]
) returns table (
  viewer int, user_id uuid, related boolean, face rollcall.presence_face, status rollcall.presence_status,
  reach rollcall.presence_reach, last_seen timestamptz, custom_status text, activity text, current_page text,
  idle_since timestamptz, version bigint, conversation_id text, id_is_number boolean, error text
)
  language plpgsql volatile security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant text := current_setting('search_path');
  -- Of each role once, before any role is assumed.
  v_paths constant text[] := array(
    select p.path
    from unnest(p_role) with ordinality as o (role, place)
    join (
      select d.role, rollcall.role_search_path(d.role) as path from (select distinct unnest(p_role) as role) d offset 0
    ) p using (role)
    order by o.place
  );
  v_follow uuid[];
  v_scope uuid[];
begin
  for i in 1 .. cardinality(p_role) loop
    v_follow := p_follow[coalesce(p_follow_end[i - 1], 0) + 1 : p_follow_end[i]];
    v_scope := p_scope[coalesce(p_scope_end[i - 1], 0) + 1 : p_scope_end[i]];
    begin
      perform set_config('role', p_role[i], true), set_config('request.jwt.claims', p_claims[i], true),
        set_config('search_path', v_paths[i], true);
      return query
        select i, candidate.id, candidate.related, p.face, p.status, p.reach, p.last_seen, p.custom_status,
          p.activity, p.current_page, p.idle_since, p.version, null::text, null::boolean, null::text
        from (
          select either.id, bool_or(either.related) as related
          from (
            select r.id, true as related from rollcall.my_relations() as r (id)
            union all
            select f.id, false from unnest(v_follow) as f (id)
          ) either
          where p_full[i] or either.id = any (v_scope)
          group by either.id
        ) candidate
        left join rollcall.user_presence p on p.user_id = candidate.id;
      return query
        select i, t.user_id, true, null::rollcall.presence_face, null::rollcall.presence_status,
          null::rollcall.presence_reach, null::timestamptz, null::text, null::text, null::text, null::timestamptz,
          null::bigint, t.conversation_id, t.id_is_number, null::text
        from rollcall.my_conversation_ids() as mine (id)
        join rollcall.typing_indicators t on t.conversation_id = mine.id
        where p_full[i] or t.user_id = any (v_scope);
    exception when others then
      return query select i, null::uuid, null::boolean, null::rollcall.presence_face, null::rollcall.presence_status,
        null::rollcall.presence_reach, null::timestamptz, null::text, null::text, null::text, null::timestamptz,
        null::bigint, null::text, null::boolean, sqlstate::text;
    end;
  end loop;
  perform set_config('role', 'none', true), set_config('request.jwt.claims', '', true),
    set_config('search_path', v_own_path, true);
end
$$;
comment on function rollcall_internal.visible_presences is
  'What each of several viewers sees, queried with that viewers role and claims.';

-- Followed tables -----------------------------------------------------------------------------------------------------

-- Definer: see invalidate_visibility.
create function rollcall_internal.on_watched_table_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform rollcall_internal.note_visibility_change(null, null, tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_watched_table_changed is
  'Trigger function: a changed table that policies read invalidates all visibility.';

-- Tables that policies mention are followed automatically; call it for a table that only the text of a function names.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_table(p_table regclass) returns boolean
  language plpgsql security invoker set search_path = ''
as $$
begin
  if exists (select from pg_catalog.pg_trigger t where t.tgrelid = p_table
      and (t.tgname = 'rollcall_watch' or t.tgname = 'invalidate_after_insert')) then
    return false;
  end if;
  execute format('create trigger rollcall_watch after insert or update or delete or truncate on %s
    for each statement execute function rollcall_internal.on_watched_table_changed()', p_table);
  return true;
end
$$;
comment on function rollcall.watch_table is
  'Makes sockets follow a table that decides who sees whom; false when it is followed already.';
grant execute on function rollcall.watch_table to service_role;

-- Tables that policies name (by pg_depend), that functions with a parsed body name, whose names occur in the text of
-- any other function they call, directly or indirectly, and partitions of all these. The result may contain too many
-- tables; it lacks one only where a function builds a name at run time. Functions in the schemas p_closed are not
-- examined.
-- Definer: reads catalogs only.
-- Over 60 lines: one recursive statement.
create function rollcall_internal.policy_objects(p_tables regclass[], p_closed text[])
  returns table (classid oid, objid oid)
  language sql stable security definer set search_path = ''
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
  language sql stable security definer set search_path = ''
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
    -- Written with every message of presence in a channel; its policies concern this table only.
    and c.oid is distinct from to_regclass('rollcall.presence')
$$;
comment on function rollcall_internal.policy_sources is 'Tables that the policies on some tables depend on.';

-- Records what ddl_concerns_policies compares with. The OID of this function shows that the database was not restored
-- or upgraded since, after which all OIDs are others.
-- Definer: writes a table that no API role may write.
create function rollcall_internal.examine_policies(p_purpose text) returns void
  language sql volatile security definer set search_path = ''
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
  language sql stable security definer set search_path = ''
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

-- Functions of Rollcall are not examined: triggers on its tables know the users concerned.
-- Definer: reads catalogs only.
create function rollcall.visibility_sources() returns setof regclass
  language sql stable security definer set search_path = ''
as $$
  select rollcall_internal.policy_sources('visibility')
$$;
comment on function rollcall.visibility_sources is 'Tables that decide who sees whom.';

-- Then every change of a face may change who sees it, and each change is queried again.
-- Definer: reads catalogs only.
create function rollcall_internal.policies_read_state() returns boolean
  language sql stable security definer set search_path = ''
as $$
  select exists (
    select
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = 'rollcall.user_presence'::regclass
      and p.polcmd in ('r', '*')
      and d.deptype = 'n'
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = p.polrelid
      -- A reference to the whole row has no column number.
      and d.refobjsubid not in (
        select a.attnum from pg_catalog.pg_attribute a
        where a.attrelid = p.polrelid and a.attname in ('user_id', 'face')
      )
  )
$$;
comment on function rollcall_internal.policies_read_state is
  'Whether policies on user_presence read more of a row than user and face.';

-- Definer: the owner may create triggers on tables that it owns; doctor reports the others.
create function rollcall.watch_visibility_sources() returns setof regclass
  language plpgsql security definer set search_path = ''
as $$
declare
  v_table regclass;
begin
  perform rollcall_internal.examine_policies('visibility');
  for v_table in select s from rollcall.visibility_sources() s loop
    begin
      if rollcall.watch_table(v_table) then
        return next v_table;
      end if;
    exception when insufficient_privilege then
      raise warning 'Rollcall cannot watch %: its changes reach open sockets only with the next full look', v_table
        using hint = format('grant trigger on %s to %I; select rollcall.watch_visibility_sources();', v_table,
          current_user);
    end;
  end loop;
end
$$;
comment on function rollcall.watch_visibility_sources is
  'Follows every table that visibility depends on; returns the tables that were added.';

-- Arguments: the columns of viewer and subject, '' for none.
-- Definer: see invalidate_visibility. rollcall.watch sets the column names.
create function rollcall_internal.on_watched_pairs_changed() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_viewers uuid[];
  v_subjects uuid[];
  v_any boolean;
  v_rows constant text := case tg_op when 'INSERT' then 'table new_rows' when 'DELETE' then 'table old_rows'
    else 'select * from new_rows union all select * from old_rows' end;
begin
  execute format(
    'select count(*) > 0, %s, %s from (%s) changed',
    case tg_argv[0] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')',
        tg_argv[0]) end,
    case tg_argv[1] when '' then 'null::uuid[]'
      else format('coalesce(array_agg(distinct changed.%I) filter (where changed.%1$I is not null), ''{}'')',
        tg_argv[1]) end,
    v_rows) into v_any, v_viewers, v_subjects;
  if v_any and v_viewers is distinct from '{}' and v_subjects is distinct from '{}' then
    perform rollcall_internal.note_visibility_change(v_viewers, v_subjects, tg_table_schema || '.' || tg_table_name);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_watched_pairs_changed is
  'Trigger function: changed rows of a followed table invalidate visibility between the users they name.';

-- Null for a column stands for all viewers or all subjects. Without a declaration, each change of a table that a
-- policy reads invalidates all visibility. Use it only for tables whose rows concern no other users. A later
-- declaration replaces it.
-- Invoker: needs to own the table, to replace triggers.
create function rollcall.watch(p_table regclass, p_viewer_column name, p_subject_column name) returns void
  language plpgsql security invoker set search_path = ''
as $$
declare
  v_column name;
  v_operation record;
begin
  if p_viewer_column is null and p_subject_column is null then
    raise exception 'at least one of viewer column and subject column is required' using
      errcode = 'invalid_parameter_value', hint = format('For neither: select rollcall.watch_table(%L);',
        p_table::text);
  end if;
  foreach v_column in array array[p_viewer_column, p_subject_column] loop
    if v_column is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_table and a.attname = v_column and a.attnum > 0 and not a.attisdropped
        and a.atttypid = 'uuid'::regtype
    ) then
      raise exception '% has no column % of type uuid', p_table, quote_ident(v_column)
        using errcode = 'undefined_column';
    end if;
  end loop;
  if exists (
    select from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
    where t.tgrelid = p_table and t.tgname = 'invalidate_after_insert' and f.proname <> 'on_watched_pairs_changed'
  ) then
    raise exception '% is a table of Rollcall, which sockets follow already', p_table
      using errcode = 'object_not_in_prerequisite_state';
  end if;

  execute format('drop trigger if exists rollcall_watch on %s', p_table);
  for v_operation in
    select * from (values
      ('insert', 'referencing new table as new_rows'),
      ('update', 'referencing old table as old_rows new table as new_rows'),
      ('delete', 'referencing old table as old_rows')
    ) as operation (verb, transitions)
  loop
    execute format('create or replace trigger invalidate_after_%1$s after %1$s on %2$s %3$s for each statement
        execute function rollcall_internal.on_watched_pairs_changed(%4$L, %5$L)',
      v_operation.verb, p_table, v_operation.transitions, coalesce(p_viewer_column, ''),
        coalesce(p_subject_column, ''));
  end loop;
  execute format('create or replace trigger invalidate_after_truncate after truncate on %s
    for each statement execute function rollcall_internal.on_watched_table_changed()', p_table);
end
$$;
comment on function rollcall.watch is
  'Declares which columns of a table name viewer and subject, so that only these users are queried again.';
grant execute on function rollcall.watch to service_role;

-- Changes of policies -------------------------------------------------------------------------------------------------

-- Catalog rows are read with the snapshot of the statement, so a reader compares it with the faces of the same
-- snapshot.
-- Definer: reads catalogs only.
create function rollcall_internal.policy_fingerprint() returns bigint
  language sql stable security definer set search_path = ''
as $$
  select coalesce(sum(hashtextextended(part, 0) % 4294967296), 0)::bigint
  from (
    select p.oid::text || p.xmin::text as part from pg_catalog.pg_policy p
    union all
    select c.oid::text || c.relrowsecurity::text || c.relforcerowsecurity::text || coalesce(c.relacl::text, '')
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace s on s.oid = c.relnamespace and s.nspname !~ '^pg_'
      and s.nspname <> 'information_schema'
    where c.relkind in ('r', 'p', 'v', 'm')
    union all
    -- A view may be replaced.
    select r.oid::text || r.xmin::text from pg_catalog.pg_rewrite r where r.ev_class >= 16384
    union all
    select f.oid::text || f.xmin::text from pg_catalog.pg_proc f
    where f.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  ) as parts
$$;
comment on function rollcall_internal.policy_fingerprint is
  'One number for everything in the catalogs that visibility depends on.';

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

-- Definer: runs for any role that issues DDL.
create function rollcall_internal.on_ddl() returns event_trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  -- Objects of Rollcall may be missing while they are dropped together.
  if to_regclass('rollcall_internal.visibility_log') is null or to_regclass('rollcall.user_presence') is null then
    return;
  end if;
  if tg_tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'ALTER TABLE', 'DROP TABLE', 'GRANT', 'REVOKE',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'CREATE PROCEDURE', 'ALTER ROUTINE', 'DROP ROUTINE',
      'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
      'REFRESH MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE RULE', 'DROP RULE', 'DROP TYPE', 'DROP SCHEMA',
      'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP OWNED')
  then
    if tg_tag in ('DROP TABLE', 'ALTER TABLE', 'DROP SCHEMA', 'ALTER SCHEMA', 'DROP OWNED', 'DROP EXTENSION')
      and exists (select from rollcall_internal.own_tables)
    then
      perform rollcall_internal.refresh_own_tables();
    end if;
    perform rollcall_internal.note_visibility_change(null, null, lower(tg_tag));
  end if;
  if tg_tag = 'CREATE PUBLICATION' then
    perform rollcall_internal.publish_presence();
  end if;
  -- A partition of a table in use, which is followed too.
  if tg_tag = 'CREATE TABLE' and exists (
    select from pg_catalog.pg_event_trigger_ddl_commands() c
    join pg_catalog.pg_inherits i on i.inhrelid = c.objid
    where exists (select from rollcall_internal.own_tables))
  then
    perform rollcall_internal.refresh_own_tables();
  end if;
  -- A table may be created after the function that reads it.
  if tg_tag = any (rollcall_internal.tags_of_new_dependencies())
    and rollcall_internal.ddl_concerns_policies('visibility')
  then
    perform rollcall.watch_visibility_sources();
  end if;
end
$$;
comment on function rollcall_internal.on_ddl is
  'Event trigger function: DDL invalidates all visibility; follows new tables and publications.';

-- Views and explanations ----------------------------------------------------------------------------------------------

-- Invoker: shows what the policies on user_presence show.
create view rollcall.online with (security_invoker = true) as
  select distinct on (p.user_id)
    p.user_id, p.status, p.reach, p.custom_status, p.activity, p.current_page, p.last_seen, p.idle_since
  from rollcall.user_presence p
  where p.reach <> 'offline'
  order by p.user_id, p.face desc;
comment on view rollcall.online is
  'Users that are online, one row each, as the current role sees them: the owner and service_role see the trusted '
  'face.';
revoke all on rollcall.online from anon, authenticated, service_role;
grant select on rollcall.online to authenticated, service_role;

-- Invoker: shows what the policies on presence_devices show.
create view rollcall.online_devices with (security_invoker = true) as
  select
    d.user_id, d.device_id, d.device_name, d.device_type, d.platform, d.app_version, d.status,
    rollcall.any_node_lives(d.nodes) as connected, d.session_started_at, d.last_heartbeat_at, d.last_active_at,
    d.idle_since, d.activity, d.current_page
  from rollcall.presence_devices d
  where d.live;
comment on view rollcall.online_devices is
  'Live devices; connected ones hold a socket, the others live on heartbeats. Users see their own.';
revoke all on rollcall.online_devices from anon, authenticated, service_role;
grant select on rollcall.online_devices to authenticated, service_role;

-- The first of these that applies. explain_visibility uses it after it has evaluated the policies.
-- Definer: reads blocks, lists and settings of all users; service_role only.
-- Over 60 lines: one case after the other, in the order of the policies.
create function rollcall.visibility_evidence(p_viewer uuid, p_subject uuid)
  returns table (allows boolean, decided_by text, evidence jsonb, reason text)
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_row record;
  v_setting rollcall.presence_visibility;
  v_default boolean := false;
  v_own jsonb;
  v_counts boolean;
begin
  if p_viewer = p_subject then
    return query select true, 'self', null::jsonb, 'users see their own trusted face';
    return;
  end if;

  v_own := rollcall_internal.own_evidence('blocks', p_viewer, p_subject);
  if v_own is not null and exists (select from rollcall_internal.blocks_between(p_viewer, p_subject)) then
    return query select false, 'block', v_own, 'one of them has blocked the other; a block beats everything else';
    return;
  end if;
  select b.* into v_row from rollcall.blocks b
    where (b.blocker_id, b.blocked_id) in ((p_viewer, p_subject), (p_subject, p_viewer)) and v_own is null
    order by b.blocker_id = p_viewer desc limit 1;
  if found then
    return query select false, 'block', jsonb_build_object('table', 'blocks', 'row', to_jsonb(v_row)),
      case when v_row.blocker_id = p_viewer then 'the viewer has blocked the subject'
        else 'the subject has blocked the viewer' end
        || '; a block beats everything else';
    return;
  end if;

  select l.* into v_row from rollcall.presence_visibility_list l where l.user_id = p_subject and l.viewer_id = p_viewer;
  if found then
    return query select true, 'list', jsonb_build_object('table', 'presence_visibility_list', 'row', to_jsonb(v_row)),
      'the viewer is on the subject''s visibility list, and so sees the trusted face, whatever the settings';
    return;
  end if;

  select s.visibility into v_setting from rollcall.presence_settings s where s.user_id = p_subject;
  if not found then
    v_setting := 'contacts';
    v_default := true;
  end if;
  if v_setting in ('nobody', 'everyone') then
    return query select v_setting = 'everyone', 'setting',
      jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting),
      format('the subject shows the public face to %s', v_setting);
    return;
  end if;

  v_own := rollcall_internal.own_evidence(case v_setting when 'contacts' then 'contacts' else 'team_members' end,
    p_viewer, p_subject);
  if v_own is not null then
    v_counts := case v_setting
      when 'contacts' then exists (select from rollcall_internal.contacts_of(p_viewer) as c (id) where c.id = p_subject)
      else exists (select from rollcall_internal.team_mates_of(p_viewer) as t (id) where t.id = p_subject) end;
    if v_counts or v_own ->> 'row' is not null then
      return query select v_counts, case v_setting when 'contacts' then 'contact' else 'team' end, v_own,
        format('%s relates them%s, and the subject shows the public face to %s', v_own ->> 'table',
          case when v_counts then '' else ', but its condition does not hold' end,
          case v_setting when 'team' then 'team mates' else 'contacts' end);
      return;
    end if;
  elsif v_setting = 'contacts' then
    select c.* into v_row from rollcall.contacts c
      where (c.requester_id, c.addressee_id) in ((p_viewer, p_subject), (p_subject, p_viewer))
      order by c.accepted_at is not null desc limit 1;
    if found then
      return query select v_row.accepted_at is not null, 'contact',
        jsonb_build_object('table', 'contacts', 'row', to_jsonb(v_row)),
        case when v_row.accepted_at is null
          then 'they are to be contacts, but nobody has accepted yet; the subject shows the public face to contacts'
          else 'they are contacts, and the subject shows the public face to contacts' end;
      return;
    end if;
  else
    select theirs.*, mine.accepted_at is not null and theirs.accepted_at is not null as counts into v_row
    from rollcall.team_members mine
    join rollcall.team_members theirs using (team_id)
    where mine.user_id = p_viewer and theirs.user_id = p_subject
    order by counts desc, theirs.team_id limit 1;
    if found then
      return query select v_row.counts, 'team', jsonb_build_object('table', 'team_members', 'row',
        to_jsonb(v_row) - 'counts'),
        case when v_row.counts then 'they share a team, and the subject shows the public face to team mates'
          else 'they would share a team, but one of them has not accepted; '
            'the subject shows the public face to team mates' end;
      return;
    end if;
  end if;
  return query select false, 'setting',
    jsonb_build_object('table', 'presence_settings', 'column', 'visibility', 'value', v_setting, 'default', v_default),
    format('the subject shows the public face to %s, and the viewer is none', case v_setting when 'team'
      then 'team mates' else 'contacts' end);
end
$$;
comment on function rollcall.visibility_evidence is
  'The rows and settings by which Rollcalls own policies decide between two users.';
grant execute on function rollcall.visibility_evidence to service_role;

-- One row per face that the viewer sees, or one row with `visible` false.
--   decided_by  self, block, list, setting, contact, team: by Rollcall's own policies, with the row or setting in
--               `evidence`;
--               policy: by another one, named in `policy`; never_seen: there is no face; grant: the role may not read;
--               error: a policy raised; row_level_security: it is switched off
--   policy      the policies that allow it, or the restrictive one that forbids it
-- Each policy is evaluated alone, as the viewer, on the subject's row. The result is what `select` as the viewer
-- returns; where the two differ, `decided_by` is `policy` and `policy` is null.
-- Invoker: it assumes the viewer's role, which the session's login role must be a member of. Without a search_path of
-- its own, because it evaluates users' policies.
-- Over 60 lines: one case after the other.
create function rollcall.explain_visibility(p_viewer uuid, p_subject uuid, p_claims jsonb default '{}')
  returns table (visible boolean, face rollcall.presence_face, decided_by text, policy text, evidence jsonb,
    reason text)
  language plpgsql volatile security invoker
as $$
#variable_conflict use_column
declare
  v_own_path constant text := current_setting('search_path');
  v_path constant text := rollcall.role_search_path('authenticated');
  v_role constant text := current_setting('role');
  v_claims constant text := coalesce(current_setting('request.jwt.claims', true), '');
  v_ours constant text[] := array['users read their trusted face', 'viewers read the face shown to them'];
  v_row rollcall.user_presence;
  v_policy record;
  v_seen rollcall.presence_face[];
  v_verdict boolean;
  v_allows text[];
  v_forbids text[];
  v_using jsonb;
  v_fact record;
begin
  if not coalesce((select c.relrowsecurity from pg_catalog.pg_class c where c.oid = 'rollcall.user_presence'::regclass),
    false) then
    return query select true, p.face, 'row_level_security', null::text, null::jsonb,
      'row-level security on user_presence is off: everybody who may read the table sees every face'
      from rollcall.user_presence p where p.user_id = p_subject;
    return;
  end if;

  -- What `select` as the viewer returns.
  begin
    perform set_config('request.jwt.claims',
        (p_claims || jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::text, true),
      set_config('search_path', v_path, true), set_config('role', 'authenticated', true);
    v_seen := array(select p.face from rollcall.user_presence p where p.user_id = p_subject order by p.face);
    perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true),
      set_config('search_path', v_own_path, true);
  exception when insufficient_privilege then
    return query select false, null::rollcall.presence_face, 'grant', null::text, null::jsonb, sqlerrm;
    return;
  when others then
    return query select false, null::rollcall.presence_face, 'error', null::text,
      jsonb_build_object('sqlstate', sqlstate), sqlerrm;
    return;
  end;

  select e.* into v_fact from rollcall.visibility_evidence(p_viewer, p_subject) e;
  if not exists (select from rollcall.user_presence p where p.user_id = p_subject) then
    return query select false, null::rollcall.presence_face, 'never_seen', null::text, null::jsonb,
      'the subject was never here: there is nothing to see';
    return;
  end if;

  for v_row in
    select p.* from rollcall.user_presence p
    where p.user_id = p_subject and (p.face = any (v_seen) or v_seen = '{}')
    order by p.face
  loop
    v_allows := '{}';
    v_forbids := '{}';
    v_using := '{}';
    for v_policy in
      select l.polname::text as name, l.polpermissive as permissive, pg_catalog.pg_get_expr(l.polqual, l.polrelid)
        as expression
      from pg_catalog.pg_policy l
      where l.polrelid = 'rollcall.user_presence'::regclass and l.polcmd in ('r', '*')
        and exists (select from unnest(l.polroles) r where r = 0 or pg_catalog.pg_has_role('authenticated', r, 'usage'))
      order by l.polname
    loop
      begin
        perform set_config('request.jwt.claims',
            (p_claims || jsonb_build_object('sub', p_viewer, 'role', 'authenticated'))::text, true),
          set_config('search_path', v_path, true), set_config('role', 'authenticated', true);
        -- Under the table's name, which the expression uses.
        execute format('select (%s) from (select ($1::rollcall.user_presence).*) as user_presence', v_policy.expression)
          into v_verdict using v_row;
        perform set_config('role', v_role, true), set_config('request.jwt.claims', v_claims, true),
          set_config('search_path', v_own_path, true);
      exception when others then
        v_verdict := null;
      end;
      if v_policy.permissive and v_verdict then
        v_allows := v_allows || v_policy.name;
        v_using := v_using || jsonb_build_object(v_policy.name, v_policy.expression);
      elsif not v_policy.permissive and v_verdict is not true then
        v_forbids := v_forbids || v_policy.name;
        v_using := v_using || jsonb_build_object(v_policy.name, v_policy.expression);
      end if;
    end loop;

    if v_row.face = any (v_seen) then
      if v_allows && v_ours and v_fact.allows then
        return query select true, v_row.face, v_fact.decided_by, array_to_string(v_allows, ', '), v_fact.evidence,
          v_fact.reason;
      else
        return query select true, v_row.face, 'policy', nullif(array_to_string(v_allows, ', '), ''), v_using,
          case when v_allows = '{}' then 'row-level security allows it; which policy cannot be told from outside'
            else format('allowed by the policy %s', array_to_string(v_allows, ', ')) end;
      end if;
    elsif v_allows <> '{}' then
      return query select false, null::rollcall.presence_face, 'policy', nullif(array_to_string(v_forbids, ', '), ''),
        v_using,
        format('the policy %s would allow it, but the restrictive policy %s does not',
          array_to_string(v_allows, ', '), coalesce(nullif(array_to_string(v_forbids, ', '), ''),
            'that cannot be told from outside'));
      return;
    end if;
  end loop;

  if v_seen = '{}' then
    if v_fact.allows and exists (
      select from rollcall.user_presence p
      where p.user_id = p_subject
        and p.face = (case when v_fact.decided_by in ('self', 'list') then 'trusted'
          else 'public' end)::rollcall.presence_face
    ) then
      -- Rollcall's own policy would allow it; it was changed or dropped.
      return query select false, null::rollcall.presence_face, 'policy', null::text, v_fact.evidence,
        'no policy allows it';
    else
      return query select false, null::rollcall.presence_face, v_fact.decided_by, null::text, v_fact.evidence,
        v_fact.reason || case when v_fact.allows then '; but there is no such face to see' else '' end;
    end if;
  end if;
end
$$;
comment on function rollcall.explain_visibility is
  'What a viewer sees of a subject, and which block, list, setting, relation or policy decides it.';
grant execute on function rollcall.explain_visibility to service_role;

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
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '3s' set timezone = 'UTC'
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
  language plpgsql security definer set search_path = ''
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
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '3s'
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
-- here.
create sequence rollcall_internal.bus_id;

-- Three partitions take turns every twenty seconds; the oldest is truncated, which costs nothing per row.
create table rollcall_internal.bus (
  id bigint not null default nextval('rollcall_internal.bus_id'),
  slot smallint not null,
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
  language sql volatile security definer set search_path = ''
as $$
  select (floor(extract(epoch from clock_timestamp()) / 20)::bigint % 3)::smallint
$$;
comment on function rollcall_internal.bus_slot is 'The partition of the bus that takes messages now.';

-- NOTIFY carries the position, never the content: any role may LISTEN.
-- Definer: only the server writes the bus.
create function rollcall_internal.post_to_bus(p_node uuid, p_payload bytea) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_slot constant smallint := rollcall_internal.bus_slot();
  v_id bigint;
begin
  -- The row need not survive a crash.
  perform set_config('synchronous_commit', 'off', true);
  insert into rollcall_internal.bus (slot, payload) values (v_slot, p_payload) returning id into v_id;
  perform rollcall_internal.notify_directly('rollcall_bus', concat_ws(' ', p_node, v_slot, v_id));
end
$$;
comment on function rollcall_internal.post_to_bus is 'Sends a message to the other nodes.';

-- In the first half of a turn, when its content is 40 seconds old and no node can write to it. Where a reader holds
-- it, the next call tries again.
-- Definer: only the server writes the bus.
create function rollcall_internal.purge_bus() returns boolean
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '50ms'
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
  v_own_path constant text := current_setting('search_path');
  -- Of each role once, before any role is assumed.
  v_paths constant text[] := array(
    select p.path
    from unnest(p_role) with ordinality as o (role, place)
    join (
      select d.role, rollcall.role_search_path(d.role) as path from (select distinct unnest(p_role) as role) d offset 0
    ) p using (role)
    order by o.place
  );
  v_at constant timestamp := clock_timestamp() at time zone 'utc';
  v_broadcast constant uuid[] := array(select gen_random_uuid() from unnest(p_topics));
  v_presence constant uuid[] := array(select gen_random_uuid() from unnest(p_topics));
  v_messages constant regclass := 'realtime.messages';
  -- A refusal by a policy and an error inside a policy, such as a missing grant on a table that it reads, have the
  -- same SQLSTATE. The message tells them apart; in other languages than English it names the table.
  v_refusal constant text := case when current_setting('lc_messages') ~* '^(c|posix|en)' then '%row-level security%'
    else '%"messages"%' end;
  v_topic text;
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

  for i in 1 .. cardinality(p_role) loop
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
  v_own_path constant text := current_setting('search_path');
  v_own_role constant text := current_setting('role');
  v_role constant text := coalesce(p_claims ->> 'role', 'anon');
  v_messages constant regclass := 'realtime.messages';
  v_oid constant oid := (select r.oid from pg_catalog.pg_roles r where r.rolname = v_role);
  v_probe record;
  v_policy record;
  v_action record;
  v_reasons text[];
  v_holds boolean;
begin
  if v_oid is null then
    return query select a.name, false, format('there is no role %s', v_role)
      from unnest(array['read broadcast', 'read presence', 'write broadcast', 'write presence']) as a (name);
    return;
  end if;
  begin
    select * into v_probe
      from rollcall_internal.probe_channels(array[p_topic], array[1], array[v_role], array[p_claims ->> 'sub'],
        array[p_claims::text], array['{}'], array[true], array[true]);
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
        array[format('the evaluation raises %s: %s', v_probe.error, v_probe.message)]
      when v_probe.error is not null then
        array[format('the role %s may not be assumed, or not use the table: %s', v_role, v_probe.error)]
      else '{}' end;
    if not has_table_privilege(v_oid, v_messages, case v_action.command when 'r' then 'select' else 'insert' end) then
      v_reasons := v_reasons || format('the role %s may not %s realtime.messages (grants)', v_role,
        case v_action.command when 'r' then 'select' else 'insert into' end);
    elsif (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.oid = v_oid) then
      v_reasons := v_reasons || format('row-level security does not bind the role %s', v_role);
    end if;
    -- Each policy that applies, alone, as the subscriber.
    perform set_config('search_path', '', true);
    for v_policy in
      select p.polname, case when p.polpermissive then 'permissive' else 'restrictive' end as kind,
        pg_get_expr(case when p.polcmd in ('a', '*') and v_action.command = 'a' then coalesce(p.polwithcheck, p.polqual)
          else p.polqual end, p.polrelid) as condition
      from pg_catalog.pg_policy p
      where p.polrelid = v_messages and p.polcmd::text in (v_action.command, '*')
        and rollcall_internal.policy_applies(p.polroles, v_oid)
      order by p.polpermissive, p.polname
    loop
      begin
        perform set_config('search_path', rollcall.role_search_path(v_role), true), set_config('role', v_role, true),
          set_config('realtime.topic', p_topic, true), set_config('request.jwt.claims', p_claims::text, true),
          set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
          set_config('request.jwt.claim.role', v_role, true), set_config('request.headers', '{}', true);
        execute format('select coalesce(%s, false) from jsonb_populate_record(null::realtime.messages, $1) as messages',
            coalesce(v_policy.condition, 'true')) into v_holds
          using jsonb_build_object('id', gen_random_uuid(), 'topic', p_topic, 'extension', v_action.extension,
            'private', false, 'inserted_at', localtimestamp, 'updated_at', localtimestamp);
        v_reasons := v_reasons || format('the %s policy "%s" %s', v_policy.kind, v_policy.polname,
          case when v_holds then 'allows it' else 'does not allow it' end);
      exception when others then
        -- As text, a policy may need rights that it does not need in the table, such as usage of a function's schema.
        v_reasons := v_reasons || case
          when (sqlstate, sqlerrm) = (v_probe.error, v_probe.message) then
            format('the policy "%s" on realtime.messages raises %s for the role %s: %s', v_policy.polname, sqlstate,
              v_role, sqlerrm)
          else format('the %s policy "%s" cannot be evaluated alone', v_policy.kind, v_policy.polname) end;
      end;
      -- The next policies are read with the empty path, which qualifies the names in their text.
      perform set_config('role', v_own_role, true), set_config('search_path', '', true);
    end loop;
    perform set_config('search_path', v_own_path, true);
    if cardinality(v_reasons) = 0 then
      v_reasons := array[format('no policy on realtime.messages allows it for the role %s', v_role)];
    end if;
    return query select v_action.name, coalesce(v_action.allowed, false), r.reason from unnest(v_reasons) as r (reason);
  end loop;
end
$$;
comment on function rollcall.explain_channel is
  'Why a subscriber may read or write broadcasts and presence of a private channel, or not.';

-- What a decision depends on ------------------------------------------------------------------------------------------

-- Notifies `<what>|<masked hashes>`. Hashes are the first four bytes of SHA-256 values, in hexadecimal, of
-- values in the changed rows; callers whose user or topic has one of these hashes are evaluated first. Without hashes
-- all are evaluated at once.
-- Definer: called from triggers of any writer.
create function rollcall.invalidate_channel_authorization(p_what text, p_hashes text[] default '{}') returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_what constant text := left(replace(p_what, '|', ' '), 200);
  v_nonce text;
begin
  if cardinality(p_hashes) between 1 and 500 and not exists (
    select from unnest(p_hashes) as hashes (hash) where hashes.hash !~ '^[0-9a-f]{8}$' or hashes.hash is null
  ) then
    v_nonce := rollcall_internal.notification_nonce();
    perform rollcall_internal.notify('rollcall_rights',
      v_what || '|' || array_to_string(rollcall_internal.mask(v_nonce, p_hashes), ','), v_nonce);
  else
    perform rollcall_internal.notify('rollcall_rights', v_what || '|');
  end if;
end
$$;
comment on function rollcall.invalidate_channel_authorization is
  'Makes every node evaluate the policies of private channels again.';
grant execute on function rollcall.invalidate_channel_authorization to service_role;

-- Invoker: computes from its arguments.
create function rollcall_internal.value_hashes(p_rows jsonb[]) returns text[]
  language sql immutable security invoker set search_path = ''
as $$
  select case when cardinality(p_rows) <= 100 then array(
    select distinct left(encode(sha256(convert_to(field.value, 'UTF8')), 'hex'), 8)
    from unnest(p_rows) as changed (fields)
    cross join lateral jsonb_each_text(changed.fields) field
    where length(field.value) between 1 and 200
  ) else '{}' end
$$;
comment on function rollcall_internal.value_hashes is
  'Hashes of the values in some rows; none for more than 100 rows, which stands for all callers.';

-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_inserted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_rows constant jsonb[] := array(select to_jsonb(n) from new_rows n limit 101);
begin
  if cardinality(v_rows) > 0 then
    perform rollcall.invalidate_channel_authorization(tg_table_schema || '.' || tg_table_name,
      rollcall_internal.value_hashes(v_rows));
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_inserted is
  'Trigger function: rows inserted in a table that channel policies read invalidate authorization.';

-- A statement that changes no value is ignored.
-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_updated() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_rows constant jsonb[] := array(
    (select to_jsonb(n) from new_rows n except all select to_jsonb(o) from old_rows o limit 51)
    union all
    (select to_jsonb(o) from old_rows o except all select to_jsonb(n) from new_rows n limit 51));
begin
  if cardinality(v_rows) > 0 then
    perform rollcall.invalidate_channel_authorization(tg_table_schema || '.' || tg_table_name,
      rollcall_internal.value_hashes(v_rows));
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_updated is
  'Trigger function: rows updated in a table that channel policies read invalidate authorization.';

-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_deleted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  v_rows constant jsonb[] := array(select to_jsonb(o) from old_rows o limit 101);
begin
  if cardinality(v_rows) > 0 then
    perform rollcall.invalidate_channel_authorization(tg_table_schema || '.' || tg_table_name,
      rollcall_internal.value_hashes(v_rows));
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_authorization_source_deleted is
  'Trigger function: rows deleted in a table that channel policies read invalidate authorization.';

-- Definer: see invalidate_channel_authorization.
create function rollcall_internal.on_authorization_source_truncated() returns trigger
  language plpgsql security definer set search_path = ''
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
  language sql stable security definer set search_path = ''
as $$
  select rollcall_internal.policy_sources('authorization')
$$;
comment on function rollcall.authorization_sources is 'Tables that decide who may use private channels.';

-- Tables that policies mention are followed automatically; call it for a table that only the text of a function names.
-- Invoker: needs the right to create triggers on that table.
create function rollcall.watch_authorization_source(p_table regclass) returns boolean
  language plpgsql security invoker set search_path = ''
as $$
begin
  if exists (select from pg_catalog.pg_trigger t where t.tgrelid = p_table
    and t.tgname = 'rollcall_authorization_truncate') then
    return false;
  end if;
  execute format('create trigger rollcall_authorization_insert after insert on %s referencing new table as new_rows
    for each statement execute function rollcall_internal.on_authorization_source_inserted()', p_table);
  execute format('create trigger rollcall_authorization_update after update on %s
    referencing old table as old_rows new table as new_rows
    for each statement execute function rollcall_internal.on_authorization_source_updated()', p_table);
  execute format('create trigger rollcall_authorization_delete after delete on %s referencing old table as old_rows
    for each statement execute function rollcall_internal.on_authorization_source_deleted()', p_table);
  execute format('create trigger rollcall_authorization_truncate after truncate on %s
    for each statement execute function rollcall_internal.on_authorization_source_truncated()', p_table);
  return true;
end
$$;
comment on function rollcall.watch_authorization_source is
  'Makes open private channels follow a table that decides who may use them; false when it is followed already.';
grant execute on function rollcall.watch_authorization_source to service_role;

-- Definer: the owner may create triggers on tables that it owns; doctor reports the others.
create function rollcall.watch_authorization_sources() returns setof regclass
  language plpgsql security definer set search_path = ''
as $$
declare
  v_table regclass;
begin
  perform rollcall_internal.examine_policies('authorization');
  for v_table in select s from rollcall.authorization_sources() s loop
    begin
      if rollcall.watch_authorization_source(v_table) then
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
  language sql stable security definer set search_path = ''
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
  language plpgsql security definer set search_path = ''
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
-- presence_nodes. Sockets never wait for these writes.

-- Who may read in SQL who is in a channel? On Supabase the right to see presence is a policy on realtime.messages that
-- reads realtime.topic(), a setting of the session and not a column, so it cannot be evaluated for many topics at
-- once. So service_role reads all rows, users read their own, and a DBA adds what the application needs, for example:
-- create policy "members read channel presence" on rollcall.presence for select to authenticated using (private and
-- exists (select from members m where m.room = presence.topic and m.user_id = (select auth.uid()))).
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
  'What each realtime channel tracks, one row per meta. Derived: only servers write it. A channel is a join of one '
  'socket; several may use one key. Unlogged.';
comment on column rollcall.presence.topic is 'The topic of the channel without realtime:.';
comment on column rollcall.presence.channel is 'The number of the channel on its node.';
comment on column rollcall.presence.phx_ref is 'The name of this state of the meta, as clients know it (presence_ref).';
comment on column rollcall.presence.meta is
  'The tracked value; null where jsonb cannot represent it (\u0000, lone surrogates, numbers beyond numeric).';
comment on column rollcall.presence.payload is 'The same value as the text that the client sent.';
comment on column rollcall.presence.user_id is 'The sub of the channel''s token, where it is a UUID.';
create index presence_topic on rollcall.presence (topic, private, key);
create index presence_user_id on rollcall.presence (user_id) where user_id is not null;
alter table rollcall.presence enable row level security;
create policy "own channel presence" on rollcall.presence for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role reads" on rollcall.presence for select to service_role using (true);
revoke all on rollcall.presence from anon, authenticated, service_role;
grant select on rollcall.presence to anon, authenticated, service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.presence', 'user_id', true, null, 'exists while its channel is open');

-- A node that has just started, or whose rows were lost, has no row here until it has written all of its rows.
-- Unlogged as the rows are, so both are lost together.
create unlogged table rollcall_internal.channel_nodes (
  node uuid primary key,
  generation text not null default pg_current_xact_id()::text
);
comment on table rollcall_internal.channel_nodes is
  'Nodes whose rows in rollcall.presence are complete. The generation changes when they are rewritten. Unlogged.';
-- No policies: only the server reads it.
alter table rollcall_internal.channel_nodes enable row level security;

-- Invoker: shows what the policies on rollcall.presence show.
create view rollcall.channel_presence with (security_invoker = true) as
  select p.topic, p.private, p.key, p.meta, p.user_id, p.joined_at, p.updated_at, p.phx_ref, p.node, p.channel
  from rollcall.presence p
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
  language plpgsql immutable strict security invoker set search_path = ''
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
  language sql volatile security invoker set search_path = ''
as $$
  select rollcall_internal.notify('rollcall_channels', p_node || ' ' || string_agg(c.channel::text, ','))
  from (
    select channel, (row_number() over () - 1) / 350 as part from unnest(p_channels) as channel
  ) c
  group by c.part
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
begin
  perform rollcall_internal.check_search_path();
  perform set_config('synchronous_commit', 'off', true);
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.channel_presence', 0));
  if cardinality(p_gone) > 0 then
    delete from rollcall.presence p where p.node = p_node and p.channel = any (p_gone);
  end if;
  if cardinality(p_channel) > 0 then
    begin
      insert into rollcall.presence as p
          (node, channel, topic, private, key, phx_ref, meta, payload, user_id, joined_at, updated_at)
        select p_node, o.channel, o.topic, o.private, o.key, o.ref, o.payload::jsonb, o.payload, o.usr, o.joined,
          o.updated
        from unnest(p_channel, p_topic, p_private, p_key, p_ref, p_payload, p_user, p_joined, p_updated)
          as o (channel, topic, private, key, ref, payload, usr, joined, updated)
        on conflict (node, channel) do update set
          phx_ref = excluded.phx_ref, meta = excluded.meta, payload = excluded.payload, user_id = excluded.user_id,
          updated_at = excluded.updated_at
        where p.phx_ref <> excluded.phx_ref;
    exception when others then
      -- A payload that jsonb cannot represent must not block the others.
      insert into rollcall.presence as p
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
  if p_notify and exists (select from rollcall.presence_nodes n where n.id <> p_node) then
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
begin
  perform rollcall_internal.check_search_path();
  perform set_config('synchronous_commit', 'off', true);
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.channel_presence', 0));
  -- Locked until the commit: the deletion of the node waits for it and then finds it in channel_nodes.
  perform from rollcall.presence_nodes n where n.id = p_node for key share;
  if not found then
    return false;
  end if;
  delete from rollcall.presence p
    where p.node = p_node and p.channel not in (select channel from unnest(p_channels) as channel);
  if (select count(*) from rollcall.presence p where p.node = p_node) <> cardinality(p_channels) then
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
begin
  perform rollcall_internal.check_search_path();
  perform set_config('synchronous_commit', 'off', true);
  delete from rollcall_internal.channel_nodes c where c.node = p_node;
  delete from rollcall.presence p where p.node = p_node;
  perform rollcall_internal.notify('rollcall_channels', p_node || ' *');
end
$$;
comment on function rollcall_internal.leave_channel_presence is 'Deletes the channel presence of a node that stops.';

-- What is read afterwards is complete except for writes that notify.
-- Definer: the lock belongs to the server.
create function rollcall_internal.wait_for_channel_writers() returns void
  language sql volatile security definer set search_path = '' set lock_timeout = '5s'
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
begin
  perform rollcall_internal.check_search_path();
  if not exists (select from old_rows) then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.channel_presence', 0));
  delete from rollcall_internal.channel_nodes c where c.node in (select g.id from old_rows g);
  delete from rollcall.presence p where p.node in (select g.id from old_rows g);
  return null;
end
$$;
comment on function rollcall_internal.remove_dead_nodes is
  'Trigger function: deletes the channel presence of deleted nodes.';

create trigger remove_dead_nodes after delete on rollcall.presence_nodes
  referencing old table as old_rows
  for each statement execute function rollcall_internal.remove_dead_nodes();

-- Definer: see remove_dead_nodes.
create function rollcall_internal.reset_channel_nodes() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  delete from rollcall_internal.channel_nodes;
  return null;
end
$$;
comment on function rollcall_internal.reset_channel_nodes is
  'Trigger function: after TRUNCATE every node writes its channel presence again.';

create trigger reset_channel_nodes after truncate on rollcall.presence
  for each statement execute function rollcall_internal.reset_channel_nodes();

-- schemas/65_postgres_changes.sql ------------------------------------------------------------------------------------

-- What the server reads from the catalogs to deliver `postgres_changes`. Nothing here decides who may see a row:
-- grants and row-level security do, evaluated as the subscriber.

create table rollcall.change_settings (
  relation regclass primary key,
  delete_rls boolean not null default false
);
comment on table rollcall.change_settings is
  'How changes of a table are delivered. delete_rls: a DELETE only to subscribers that row-level security lets see the '
  'row; without a row here this holds for tables of the schema rollcall only.';
-- No policies: the owner writes it, the server reads it.
alter table rollcall.change_settings enable row level security;
revoke all on rollcall.change_settings from anon, authenticated, service_role;

-- Invoker: reads catalogs that every role may read.
create function rollcall_internal.published_tables(p_schema text, p_table text)
  returns table (relation oid, schema_name text, table_name text)
  language sql stable security invoker set search_path = ''
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
  language sql stable security invoker set search_path = ''
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
  language sql stable security invoker set search_path = ''
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
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return exists (select from unnest(p_roles) as applies (oid) where applies.oid = 0
    or pg_has_role(p_role, applies.oid, 'usage'));
end
$$;
comment on function rollcall_internal.policy_applies is 'Whether policies for these roles apply to a role.';

-- Invoker: reads a table that the server may read, and catalogs.
create function rollcall_internal.delete_is_secured(p_relation oid) returns boolean
  language sql stable security invoker set search_path = ''
as $$
  select coalesce((select s.delete_rls from rollcall.change_settings s where s.relation = p_relation),
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
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
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
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
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
  language plpgsql volatile security invoker set search_path = ''
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
  language plpgsql stable security invoker set search_path = ''
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
  language plpgsql stable security invoker set search_path = ''
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
  language plpgsql stable security invoker set search_path = ''
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
  language plpgsql volatile security invoker set search_path = ''
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
  language plpgsql stable security invoker set search_path = ''
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
  language plpgsql stable security invoker set search_path = '' set plan_cache_mode = 'force_generic_plan'
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
  v_own_path constant text := current_setting('search_path');
  v_role constant text := coalesce(p_claims ->> 'role', 'anon');
  -- Under the table's own name, which policies use.
  v_name constant text := (select quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = p_relation);
  v_oid oid;
  v_access record;
  v_where text;
  v_exists boolean;
  v_delivered boolean;
  v_filter text[];
  v_type oid;
  v_value text;
  v_holds boolean;
  v_policy record;
  v_reasons text[] := '{}';
begin
  if not exists (select from rollcall_internal.published_tables('*', '*') p where p.relation = p_relation) then
    return query select false, format('%s is not in the publication supabase_realtime', p_relation);
    return;
  end if;
  select * into v_access from rollcall_internal.change_access(array[p_relation::oid], array[v_role]);
  if not v_access.is_known then
    return query select false, format('there is no role %s', v_role);
    return;
  elsif cardinality(v_access.key) = 0 then
    return query select false, format('%s has no primary key', p_relation);
    return;
  elsif not v_access.key <@ v_access.columns then
    return query select false,
      format('the role %s may not select the primary key of %s (grants)', v_role, p_relation);
    return;
  end if;
  select format('from %s as %s where ', v_access.qualified, v_name)
      || string_agg(format('%s.%I = %L::%s', v_name, k.name, p_key ->> k.name, k.of), ' and ') into v_where
    from unnest(v_access.key, v_access.key_types) as k (name, of);
  execute format('select exists (select %s)', v_where) into v_exists;
  if not v_exists then
    return query select false, 'there is no such row (any more)';
    return;
  end if;

  if p_filter <> '' then
    v_filter := regexp_match(p_filter, '^([^=]+)=(not\.)?([a-z]+)\.(.*)$');
    if v_filter is null or not v_filter[1] = any (v_access.columns) then
      return query select false, format('the filter %s names no column that the role may select', p_filter);
      return;
    elsif not v_filter[1] = any (rollcall_internal.published_columns(p_relation)) then
      return query select false,
        format('the filter %s names a column that the publication supabase_realtime does not publish', p_filter);
      return;
    end if;
    -- Within quotes, \x stands for x.
    if v_filter[3] <> 'in' and v_filter[4] like '"%"' then
      v_filter[4] := regexp_replace(substr(v_filter[4], 2, length(v_filter[4]) - 2), '\\(.)', '\1', 'g');
    end if;
    select atttypid into v_type from pg_catalog.pg_attribute where attrelid = p_relation and attname = v_filter[1];
    execute format('select %s.%I::text %s', v_name, v_filter[1], v_where) into v_value;
    if v_filter[3] = 'is' then
      v_holds := coalesce(v_value, 'null') = replace(v_filter[4], 'unknown', 'null');
      v_holds := v_holds <> (v_filter[2] is not null);
    else
      v_holds := (rollcall_internal.filter_matches(v_type, v_filter[3], v_filter[2] is not null,
        case when v_filter[3] = 'in' then '{' || trim(both '()' from v_filter[4]) || '}' else v_filter[4] end,
        array[v_value]))[1];
    end if;
    if not v_holds then
      return query select false, format('the filter %s does not hold', p_filter);
      return;
    end if;
  end if;

  if v_access.is_exempt then
    return query select true, case
      when v_access.is_secured then format('row-level security does not bind the role %s', v_role)
      else format('%s has no row-level security, and the role %s may select it', p_relation, v_role)
    end
    union all
    select true, n from rollcall_internal.change_notes(p_relation, v_role) n;
    return;
  end if;

  perform set_config('request.jwt.claims', p_claims::text, true),
    set_config('request.jwt.claim.sub', coalesce(p_claims ->> 'sub', ''), true),
    set_config('request.jwt.claim.role', v_role, true);
  begin
    perform set_config('search_path', rollcall.role_search_path(v_role), true), set_config('role', v_role, true);
    execute format('select exists (select %s)', v_where) into v_delivered;
    perform set_config('role', 'none', true), set_config('search_path', v_own_path, true);
  exception when others then
    perform set_config('role', 'none', true);
    return query select false, format('row-level security of %s raises for this subscriber: %s', p_relation, sqlerrm);
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
      execute format('select coalesce(%s, false) %s', coalesce(v_policy.condition, 'false'), v_where) into v_holds;
    exception when others then
      v_holds := null;
    end;
    v_reasons := v_reasons || format('the %s policy "%s" %s',
      case when v_policy.polpermissive then 'permissive' else 'restrictive' end, v_policy.polname,
      case when v_holds then 'lets it through' when v_holds is null then 'cannot be looked at alone'
        else 'does not let it through' end);
  end loop;
  if cardinality(v_reasons) = 0 then
    v_reasons := array[format('row-level security is on, and no policy lets the role %s select', v_role)];
  end if;
  return query select v_delivered, r.reason from unnest(v_reasons || array(select n
    from rollcall_internal.change_notes(p_relation, v_role) n))
    as r (reason);
end
$$;
comment on function rollcall.explain_change is 'Why a change of a row is delivered to a subscriber, or not.';

-- schemas/70_context_tables.sql --------------------------------------------------------------------------------------

-- What the context engine knows about a user: messages, units of knowledge, memories, instructions, the profiles that
-- the roll-up makes of them, and the bundles that are compiled from all of it. Every row belongs to its user, except
-- messages, which all participants of a conversation read.

create type rollcall.message_role as enum ('user', 'assistant', 'system');
create type rollcall.message_state as enum ('pending', 'complete', 'partial', 'failed');
create type rollcall.unit_state as enum ('active', 'archived');
create type rollcall.instruction_scope as enum ('global', 'topic');
create type rollcall.topic_domain as enum ('engineering', 'personal', 'creative', 'business', 'health', 'finance');
create type rollcall.proficiency as enum ('beginner', 'intermediate', 'advanced', 'expert', 'unknown');
create type rollcall.entity_type as enum ('person', 'project', 'organization', 'tool', 'concept');
create type rollcall.bundle_type as enum (
  'identity_core', 'global_prefs', 'topic', 'entity', 'conversation', 'composite'
);
create type rollcall.action_status as enum ('pending', 'processing', 'completed', 'failed');

-- Trigram similarity of two names from 0 to 1 by pg_trgm where available; else by prefixes, which is coarser. Without
-- a search_path of its own, so that it is inlined; every name in it is qualified. Invoker: computes from its
-- arguments.
do $$
declare
  v_schema text;
begin
  if not exists (select from pg_extension where extname = 'pg_trgm') then
    begin
      create extension pg_trgm with schema extensions;
      insert into rollcall_internal.installed_objects (kind, name, undo)
        values ('extension', 'pg_trgm', 'drop extension if exists pg_trgm');
    exception when others then
      raise notice 'pg_trgm is not available (%): names are compared without trigrams', sqlerrm;
    end;
  end if;
  select n.nspname into v_schema
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_trgm';
  if v_schema is not null then
    execute format($f$
      create function rollcall.similarity(p_one text, p_other text) returns real
        language sql immutable parallel safe security invoker
      as 'select %1$I.similarity(p_one, p_other)'$f$, v_schema);
  else
    create function rollcall.similarity(p_one text, p_other text) returns real
      language sql immutable parallel safe security invoker set search_path = ''
    as $f$
      select case
        when lower(p_one) = lower(p_other) then 1
        when length(p_one) > 3 and length(p_other) > 3
          and (starts_with(lower(p_one), lower(p_other)) or starts_with(lower(p_other), lower(p_one)))
          then least(length(p_one), length(p_other))::real / greatest(length(p_one), length(p_other))
        else 0
      end
    $f$;
  end if;
end
$$;
comment on function rollcall.similarity is 'How similar two names are, from 0 to 1.';
revoke execute on function rollcall.similarity from public;
grant execute on function rollcall.similarity to authenticated, service_role;

-- Immutable, for generated columns. For each word its trigrams with a space on both sides; for scripts without spaces
-- (Han, kana, Thai, Lao, Khmer, Burmese) pairs of characters. Character classes and lower() depend on the locale of the
-- database, so ranges and letters are listed.
-- Invoker: computes from its argument.
create function rollcall_internal.search_grams(p_text text) returns tsvector
  language sql immutable parallel safe security invoker set search_path = ''
as $$
  select coalesce(array_to_tsvector(array_agg(distinct g.gram)), '')
  from (
    select r[1] as word, r[2] as run
    from regexp_matches(
      translate(lower(left(p_text, 20000)),
        'ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞ'
          'ĂĄĆČĎĐĘĚĞİŁŃŇŐŒŘŚŞŠŢŤŮŰŸŹŻŽ'
          'ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ'
          'АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЄІЇҐ',
        'àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþ'
          'ăąćčďđęěğiłńňőœřśşšţťůűÿźżž'
          'αβγδεζηθικλμνξοπρστυφχψω'
          'абвгдеёжзийклмнопрстуфхцчшщъыьэюяєіїґ'),
      '([0-9a-z\u00aa\u00b5\u00ba\u00c0-\u02af\u0300-\u05ff\u0610-\u061a\u0620-\u0669\u066e-\u06d3\u06d5-\u0963'
        '\u0966-\u0dff\u10a0-\u177f\u1800-\u1fff\ua000-\ud7a3]+)'
        '|([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff'
        '\uf900-\ufaff\U00020000-\U0003134f]+)',
      'g') r
  ) w
  cross join lateral (
    select substr(' ' || w.word || ' ', n, 3) as gram from generate_series(1, length(w.word)) n
    union all
    select substr(w.run, n, 2) from generate_series(1, greatest(length(w.run) - 1, 1)) n where w.run is not null
  ) g
$$;
comment on function rollcall_internal.search_grams is 'Parts of the words of a text, for search in every language.';
grant execute on function rollcall_internal.search_grams to authenticated, service_role;

-- Immutable, for generated columns; executable by roles that write them.
-- Invoker: computes from its arguments.
create function rollcall_internal.names_tsquery(p_name text, p_aliases text[]) returns tsquery
  language plpgsql immutable parallel safe security invoker set search_path = ''
as $$
declare
  v_name text;
  v_part tsquery;
  v_all tsquery;
begin
  foreach v_name in array array[p_name] || coalesce(p_aliases, '{}') loop
    v_part := phraseto_tsquery('pg_catalog.english', v_name);
    if numnode(v_part) > 0 then
      v_all := case when v_all is null then v_part else v_all || v_part end;
    end if;
  end loop;
  return v_all;
end
$$;
comment on function rollcall_internal.names_tsquery is
  'A query that matches any of these names as a phrase; null where no name has a word.';
grant execute on function rollcall_internal.names_tsquery to authenticated, service_role;

-- Definer: a policy on topic_profiles that reads topic_profiles would recurse. Answers for auth.uid() only.
create function rollcall.my_topics() returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 100
as $$
begin
  return query select t.id from rollcall.topic_profiles t where t.user_id = auth.uid();
end
$$;
comment on function rollcall.my_topics is 'Topics of the caller.';
grant execute on function rollcall.my_topics to authenticated, service_role;

-- Messages ------------------------------------------------------------------------------------------------------------

create table rollcall.messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  role rollcall.message_role not null default 'user',
  content text not null constraint messages_content_length check (char_length(content) <= 1000000),
  parts jsonb not null default '[]' constraint messages_parts_is_a_list check (jsonb_typeof(parts) = 'array'),
  message_index bigint not null,
  token_count int constraint messages_token_count_is_a_count check (token_count >= 0),
  state rollcall.message_state not null default 'complete',
  idempotency_key text constraint messages_idempotency_key_length check (char_length(idempotency_key) between 1
    and 255),
  reply_to uuid references rollcall.messages (id) on delete set null,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table rollcall.messages is 'Messages in conversations, of users and of models.';
comment on column rollcall.messages.user_id is 'The author; of a model''s message, the user that asked.';
comment on column rollcall.messages.message_index is
  'Increases within a conversation, with gaps: the microsecond of the message, set by a trigger. Messages of '
  'concurrent transactions may have the same.';
comment on column rollcall.messages.state is
  'pending: a model is answering; partial: the answer was cut off; failed: there is none. Users'' messages are '
  'complete.';
comment on column rollcall.messages.idempotency_key is
  'The client''s name of the request, so that a repeat saves nothing twice.';
-- One question and one answer per request, however often it is sent.
create unique index messages_idempotency on rollcall.messages (conversation_id, user_id, role, idempotency_key)
  where idempotency_key is not null;
-- Not unique: of two concurrent transactions, none must fail because of the other's microsecond.
create index messages_message_index on rollcall.messages (conversation_id, message_index);
create index messages_reply_to on rollcall.messages (reply_to) where reply_to is not null;
create index messages_user_id on rollcall.messages (user_id);
-- For touch_answer and purge_pending_answers.
create index messages_pending on rollcall.messages (updated_at) where state = 'pending';
alter table rollcall.messages enable row level security;
create policy "participants read messages" on rollcall.messages
  for select to authenticated
  using (conversation_id in (select rollcall.my_conversations()));
-- Only as the user: participants trust the words of models, which only the server writes.
create policy "participants write messages" on rollcall.messages
  for insert to authenticated
  with check (user_id = (select auth.uid()) and role = 'user' and state = 'complete'
    and conversation_id in (select rollcall.my_conversations()));
create policy "authors edit their messages" on rollcall.messages
  for update to authenticated
  using (user_id = (select auth.uid()) and role = 'user' and conversation_id in (select rollcall.my_conversations()))
  with check (user_id = (select auth.uid()) and role = 'user'
    and conversation_id in (select rollcall.my_conversations()));
create policy "users delete their messages and answers to them" on rollcall.messages
  for delete to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.messages
  for all to service_role using (true) with check (true);
revoke all on rollcall.messages from anon, authenticated, service_role;
grant select, delete, insert (id, conversation_id, user_id, role, content, parts, token_count, idempotency_key,
  metadata),
  update (content, parts, token_count, metadata) on rollcall.messages to authenticated;
grant all on rollcall.messages to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.messages', 'user_id', true, 49, null);

create trigger set_updated_at before update on rollcall.messages
  for each row execute function rollcall_internal.set_updated_at();

-- A time, because a sequence would count the messages of all conversations. One more than the last message where the
-- clock was set back.
-- Definer: reads messages that the author may not see; writes only the new row.
create function rollcall_internal.set_message_index() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  new.message_index := greatest(
    (extract(epoch from clock_timestamp()) * 1000000)::bigint,
    (select m.message_index from rollcall.messages m where m.conversation_id = new.conversation_id
      order by m.message_index desc limit 1) + 1);
  return new;
end
$$;
comment on function rollcall_internal.set_message_index is
  'Trigger function: numbers a message after the last one of its conversation.';

create trigger set_message_index before insert on rollcall.messages
  for each row when (new.message_index is null) execute function rollcall_internal.set_message_index();

-- Locks in the order of ids, so that concurrent senders do not deadlock.
-- Definer: senders need no right to write conversations.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.set_last_message() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  update rollcall.conversations c set last_message_at = greatest(c.last_message_at, l.at)
  from (
    select k.id, m.at
    from (select x.conversation_id, max(x.created_at) as at from new_rows x where x.state <> 'pending' group by 1) m
    join rollcall.conversations k on k.id = m.conversation_id
      and (k.last_message_at is null or k.last_message_at < m.at)
    order by k.id for no key update of k
  ) l
  where c.id = l.id;
  return null;
end
$$;
comment on function rollcall_internal.set_last_message is
  'Trigger function: sets the time of a conversations last message.';

create trigger set_last_message after insert on rollcall.messages
  referencing new table as new_rows for each statement execute function rollcall_internal.set_last_message();

-- Sources -------------------------------------------------------------------------------------------------------------

create table rollcall.notebooks (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  title text not null constraint notebooks_title_length check (char_length(title) between 1 and 255),
  created_at timestamptz not null default now()
);
comment on table rollcall.notebooks is
  'Namespaces of memories, units and conversations, such as projects; signals may name one.';
create index notebooks_user_id on rollcall.notebooks (user_id);
alter table rollcall.notebooks enable row level security;
create policy "own notebooks" on rollcall.notebooks for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.notebooks
  for all to service_role using (true) with check (true);
revoke all on rollcall.notebooks from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, title), update (title) on rollcall.notebooks to authenticated;
grant all on rollcall.notebooks to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.notebooks', 'user_id', true, 48, null);

create table rollcall.atomic_chat_units (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  conversation_id uuid references rollcall.conversations (id) on delete set null,
  message_id uuid references rollcall.messages (id) on delete cascade,
  content text not null constraint atomic_chat_units_content_length check (char_length(content) between 1 and 20000),
  unit_type text not null default 'statement'
    constraint atomic_chat_units_unit_type_length check (char_length(unit_type) between 1 and 64),
  quality real not null default 0.5 constraint atomic_chat_units_quality_range check (quality between 0 and 1),
  state rollcall.unit_state not null default 'active',
  token_count int constraint atomic_chat_units_token_count_is_a_count check (token_count >= 0),
  processed_at timestamptz,
  is_learned boolean not null default false,
  notebook_id uuid references rollcall.notebooks (id) on delete set null,
  created_at timestamptz not null default now(),
  search tsvector not null generated always as (to_tsvector('english', content)) stored,
  grams tsvector not null generated always as (rollcall_internal.search_grams(content)) stored
);
comment on table rollcall.atomic_chat_units is
  'Units of knowledge: single statements, questions, insights or decisions.';
comment on column rollcall.atomic_chat_units.processed_at is 'When a roll-up processed it; null before.';
create index atomic_chat_units_user_id on rollcall.atomic_chat_units (user_id, created_at);
create index atomic_chat_units_unprocessed on rollcall.atomic_chat_units (user_id, created_at)
  where processed_at is null and state = 'active';
create index atomic_chat_units_conversation_id on rollcall.atomic_chat_units (conversation_id);
create index atomic_chat_units_notebook_id on rollcall.atomic_chat_units (notebook_id)
  where notebook_id is not null;
create index atomic_chat_units_message_id on rollcall.atomic_chat_units (message_id) where message_id is not null;
-- New rows go into the index at once: a pending list would be read by every search.
create index atomic_chat_units_search on rollcall.atomic_chat_units using gin (search) with (fastupdate = off);
create index atomic_chat_units_grams on rollcall.atomic_chat_units using gin (grams) with (fastupdate = off);
alter table rollcall.atomic_chat_units enable row level security;
create policy "own units" on rollcall.atomic_chat_units for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (notebook_id is null or notebook_id in (select n.id from rollcall.notebooks n))
    and (conversation_id is null or conversation_id in (select rollcall.my_conversations())));
create policy "service_role has full access" on rollcall.atomic_chat_units
  for all to service_role using (true) with check (true);
revoke all on rollcall.atomic_chat_units from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, conversation_id, message_id, notebook_id, content, unit_type, quality, state,
  token_count, created_at),
  update (conversation_id, notebook_id, content, unit_type, quality, state,
    token_count) on rollcall.atomic_chat_units to authenticated;
grant all on rollcall.atomic_chat_units to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.atomic_chat_units', 'user_id', true, 43, null);

create table rollcall.memories (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  content text not null constraint memories_content_length check (char_length(content) between 1 and 10000),
  category text not null default 'general'
    constraint memories_category_length check (char_length(category) between 1 and 64),
  importance real not null default 0.5 constraint memories_importance_range check (importance between 0 and 1),
  is_active boolean not null default true,
  is_pinned boolean not null default false,
  is_learned boolean not null default false,
  notebook_id uuid references rollcall.notebooks (id) on delete set null,
  conversation_id uuid references rollcall.conversations (id) on delete set null,
  message_id uuid references rollcall.messages (id) on delete set null,
  valid_from timestamptz not null default now(),
  valid_until timestamptz,
  superseded_by uuid references rollcall.memories (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  search tsvector not null generated always as (to_tsvector('english', content)) stored,
  grams tsvector not null generated always as (rollcall_internal.search_grams(content)) stored
);
comment on table rollcall.memories is 'What is to be remembered about a user.';
comment on column rollcall.memories.is_pinned is 'In every prompt, and never superseded by what the server learns.';
comment on column rollcall.memories.is_learned is 'The server took it from the message.';
comment on column rollcall.memories.valid_until is 'When a newer memory superseded it.';
comment on column rollcall.memories.category is
  'biography, identity and role describe the user, preference what they like; others are used when they match.';
create index memories_user_id on rollcall.memories (user_id, category, importance desc) where is_active;
create index memories_newest on rollcall.memories (user_id, created_at desc);
create index memories_conversation_id on rollcall.memories (conversation_id) where conversation_id is not null;
create index memories_notebook_id on rollcall.memories (notebook_id) where notebook_id is not null;
create index memories_message_id on rollcall.memories (message_id) where message_id is not null;
create index memories_superseded_by on rollcall.memories (superseded_by) where superseded_by is not null;
-- New rows go into the index at once: a pending list would be read by every search.
create index memories_search on rollcall.memories using gin (search) with (fastupdate = off);
create index memories_grams on rollcall.memories using gin (grams) with (fastupdate = off);
alter table rollcall.memories enable row level security;
create policy "own memories" on rollcall.memories for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (notebook_id is null or notebook_id in (select n.id from rollcall.notebooks n)));
create policy "service_role has full access" on rollcall.memories
  for all to service_role using (true) with check (true);
revoke all on rollcall.memories from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, notebook_id, content, category, importance, is_active, is_pinned, valid_from,
  valid_until),
  update (notebook_id, content, category, importance, is_active, is_pinned, valid_from,
    valid_until) on rollcall.memories to authenticated;
grant all on rollcall.memories to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.memories', 'user_id', true, 44, null);

create trigger set_updated_at before update on rollcall.memories
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.personas (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  name text not null constraint personas_name_length check (char_length(name) between 1 and 255),
  description text constraint personas_description_length check (char_length(description) <= 10000),
  created_at timestamptz not null default now()
);
comment on table rollcall.personas is 'Personas of the application, as far as signals and bundles name one.';
create index personas_user_id on rollcall.personas (user_id);
alter table rollcall.personas enable row level security;
create policy "own personas" on rollcall.personas for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.personas
  for all to service_role using (true) with check (true);
revoke all on rollcall.personas from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, name, description),
  update (name, description) on rollcall.personas to authenticated;
grant all on rollcall.personas to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.personas', 'user_id', true, 47, null);

-- Profiles ------------------------------------------------------------------------------------------------------------

create table rollcall.topic_profiles (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  slug text not null constraint topic_profiles_slug_length check (char_length(slug) between 1 and 255),
  label text not null constraint topic_profiles_label_length check (char_length(label) between 1 and 255),
  aliases text[] not null default '{}' constraint topic_profiles_aliases_count check (cardinality(aliases) <= 50),
  parent_id uuid references rollcall.topic_profiles (id) on delete set null,
  domain rollcall.topic_domain,
  conversation_count int not null default 0,
  unit_count int not null default 0,
  message_count int not null default 0,
  token_count int not null default 0,
  first_engaged_at timestamptz,
  last_engaged_at timestamptz,
  streak_days int not null default 0,
  peak_hour int constraint topic_profiles_peak_hour_is_an_hour check (peak_hour between 0 and 23),
  proficiency rollcall.proficiency not null default 'unknown',
  proficiency_signals jsonb not null default '{}',
  importance real not null default 0.5 constraint topic_profiles_importance_range check (importance between 0 and 1),
  dirty boolean not null default false,
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  query tsquery generated always as (rollcall_internal.names_tsquery(label, aliases)) stored,
  constraint topic_profiles_slug unique (user_id, slug)
);
comment on table rollcall.topic_profiles is
  'What a user talks about: created by the roll-up, and editable by the user.';
comment on column rollcall.topic_profiles.query is 'Matches texts that name the topic.';
comment on column rollcall.topic_profiles.dirty is 'The next roll-up counts the topic again.';
create index topic_profiles_parent_id on rollcall.topic_profiles (parent_id) where parent_id is not null;
create index topic_profiles_engaged on rollcall.topic_profiles (user_id, last_engaged_at desc);
alter table rollcall.topic_profiles enable row level security;
create policy "own topics" on rollcall.topic_profiles for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (parent_id is null or parent_id in (select rollcall.my_topics())));
create policy "service_role has full access" on rollcall.topic_profiles
  for all to service_role using (true) with check (true);
revoke all on rollcall.topic_profiles from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, slug, label, aliases, parent_id, domain, proficiency, importance),
  update (slug, label, aliases, parent_id, domain, proficiency, importance) on rollcall.topic_profiles to authenticated;
grant all on rollcall.topic_profiles to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.topic_profiles', 'user_id', true, 45, null);

create trigger set_updated_at before update on rollcall.topic_profiles
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.entity_profiles (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  slug text not null constraint entity_profiles_slug_length check (char_length(slug) between 1 and 255),
  name text not null constraint entity_profiles_name_length check (char_length(name) between 1 and 255),
  entity_type rollcall.entity_type not null default 'concept',
  aliases text[] not null default '{}' constraint entity_profiles_aliases_count check (cardinality(aliases) <= 50),
  relationship text constraint entity_profiles_relationship_length check (char_length(relationship) <= 255),
  sentiment real not null default 0 constraint entity_profiles_sentiment_range check (sentiment between -1 and 1),
  facts jsonb not null default '[]' constraint entity_profiles_facts_is_a_list check (jsonb_typeof(facts) = 'array'),
  mention_count int not null default 0,
  conversation_count int not null default 0,
  first_mentioned_at timestamptz,
  last_mentioned_at timestamptz,
  importance real not null default 0.5 constraint entity_profiles_importance_range check (importance between 0 and 1),
  dirty boolean not null default false,
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  query tsquery generated always as (rollcall_internal.names_tsquery(name, aliases)) stored,
  constraint entity_profiles_slug unique (user_id, slug)
);
comment on table rollcall.entity_profiles is
  'People, projects, organisations, tools and concepts that a user talks about.';
comment on column rollcall.entity_profiles.facts is '[{"fact", "confidence" from 0 to 1, "source" the unit}]';
create index entity_profiles_mentioned on rollcall.entity_profiles (user_id, last_mentioned_at desc);
alter table rollcall.entity_profiles enable row level security;
create policy "own entities" on rollcall.entity_profiles for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.entity_profiles
  for all to service_role using (true) with check (true);
revoke all on rollcall.entity_profiles from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, slug, name, entity_type, aliases, relationship, sentiment, facts,
  importance),
  update (slug, name, entity_type, aliases, relationship, sentiment, facts,
    importance) on rollcall.entity_profiles to authenticated;
grant all on rollcall.entity_profiles to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.entity_profiles', 'user_id', true, 46, null);

create trigger set_updated_at before update on rollcall.entity_profiles
  for each row execute function rollcall_internal.set_updated_at();

create table rollcall.custom_instructions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  content text not null constraint custom_instructions_content_length check (char_length(content) between 1 and 10000),
  scope rollcall.instruction_scope not null default 'global',
  topic_id uuid references rollcall.topic_profiles (id) on delete cascade,
  priority int not null default 0,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint custom_instructions_topic_of_its_scope check ((scope = 'topic') = (topic_id is not null))
);
comment on table rollcall.custom_instructions is 'How a user wants to be answered, always or on one topic.';
create index custom_instructions_user_id on rollcall.custom_instructions (user_id, scope, priority desc)
  where is_active;
create index custom_instructions_topic_id on rollcall.custom_instructions (topic_id) where topic_id is not null;
alter table rollcall.custom_instructions enable row level security;
create policy "own instructions" on rollcall.custom_instructions for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (topic_id is null or topic_id in (select t.id from rollcall.topic_profiles t)));
create policy "service_role has full access" on rollcall.custom_instructions
  for all to service_role using (true) with check (true);
revoke all on rollcall.custom_instructions from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, content, scope, topic_id, priority, is_active),
  update (content, scope, topic_id, priority, is_active) on rollcall.custom_instructions to authenticated;
grant all on rollcall.custom_instructions to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.custom_instructions', 'user_id', true, 42, null);

create trigger set_updated_at before update on rollcall.custom_instructions
  for each row execute function rollcall_internal.set_updated_at();

-- Links ---------------------------------------------------------------------------------------------------------------

create table rollcall.topic_conversations (
  topic_id uuid not null references rollcall.topic_profiles (id) on delete cascade,
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  relevance real not null default 0.5 constraint topic_conversations_relevance_range check (relevance between 0 and 1),
  last_seen_at timestamptz not null default now(),
  constraint topic_conversations_pkey primary key (topic_id, conversation_id)
);
comment on table rollcall.topic_conversations is 'Which topics of a user a conversation is about, and how much.';
create index topic_conversations_conversation_id on rollcall.topic_conversations (conversation_id, user_id);
create index topic_conversations_user_id on rollcall.topic_conversations (user_id);
alter table rollcall.topic_conversations enable row level security;
create policy "own topics of conversations" on rollcall.topic_conversations for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and topic_id in (select t.id from rollcall.topic_profiles t)
    and conversation_id in (select rollcall.my_conversations()));
create policy "service_role has full access" on rollcall.topic_conversations
  for all to service_role using (true) with check (true);
revoke all on rollcall.topic_conversations from anon, authenticated, service_role;
grant select, delete, insert, update (relevance) on rollcall.topic_conversations to authenticated;
grant all on rollcall.topic_conversations to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.topic_conversations', 'user_id', true, null, 'deleted with the topic');

create table rollcall.entity_conversations (
  entity_id uuid not null references rollcall.entity_profiles (id) on delete cascade,
  conversation_id uuid not null references rollcall.conversations (id) on delete cascade,
  user_id uuid not null,
  mentions int not null default 1,
  constraint entity_conversations_pkey primary key (entity_id, conversation_id)
);
comment on table rollcall.entity_conversations is 'Which entities of a user a conversation mentions.';
create index entity_conversations_conversation_id on rollcall.entity_conversations (conversation_id, user_id);
create index entity_conversations_user_id on rollcall.entity_conversations (user_id);
alter table rollcall.entity_conversations enable row level security;
create policy "own entities of conversations" on rollcall.entity_conversations for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and entity_id in (select e.id from rollcall.entity_profiles e)
    and conversation_id in (select rollcall.my_conversations()));
create policy "service_role has full access" on rollcall.entity_conversations
  for all to service_role using (true) with check (true);
revoke all on rollcall.entity_conversations from anon, authenticated, service_role;
grant select, delete, insert, update (mentions) on rollcall.entity_conversations to authenticated;
grant all on rollcall.entity_conversations to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.entity_conversations', 'user_id', true, null, 'deleted with the entity');

create table rollcall.topic_units (
  topic_id uuid not null references rollcall.topic_profiles (id) on delete cascade,
  unit_id uuid not null references rollcall.atomic_chat_units (id) on delete cascade,
  user_id uuid not null,
  relevance real not null default 0.5 constraint topic_units_relevance_range check (relevance between 0 and 1),
  constraint topic_units_pkey primary key (topic_id, unit_id)
);
comment on table rollcall.topic_units is 'Which units a topic consists of.';
create index topic_units_unit_id on rollcall.topic_units (unit_id);
create index topic_units_user_id on rollcall.topic_units (user_id);
alter table rollcall.topic_units enable row level security;
create policy "own units of topics" on rollcall.topic_units for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and topic_id in (select t.id from rollcall.topic_profiles t)
    and unit_id in (select u.id from rollcall.atomic_chat_units u));
create policy "service_role has full access" on rollcall.topic_units
  for all to service_role using (true) with check (true);
revoke all on rollcall.topic_units from anon, authenticated, service_role;
grant select, delete, insert, update (relevance) on rollcall.topic_units to authenticated;
grant all on rollcall.topic_units to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.topic_units', 'user_id', true, null, 'deleted with the topic or the unit');

create table rollcall.entity_units (
  entity_id uuid not null references rollcall.entity_profiles (id) on delete cascade,
  unit_id uuid not null references rollcall.atomic_chat_units (id) on delete cascade,
  user_id uuid not null,
  constraint entity_units_pkey primary key (entity_id, unit_id)
);
comment on table rollcall.entity_units is 'Which units mention an entity.';
create index entity_units_unit_id on rollcall.entity_units (unit_id);
create index entity_units_user_id on rollcall.entity_units (user_id);
alter table rollcall.entity_units enable row level security;
create policy "own units of entities" on rollcall.entity_units for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and entity_id in (select e.id from rollcall.entity_profiles e)
    and unit_id in (select u.id from rollcall.atomic_chat_units u));
create policy "service_role has full access" on rollcall.entity_units
  for all to service_role using (true) with check (true);
revoke all on rollcall.entity_units from anon, authenticated, service_role;
grant select, delete, insert on rollcall.entity_units to authenticated;
grant all on rollcall.entity_units to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.entity_units', 'user_id', true, null, 'deleted with the entity or the unit');

-- Bundles -------------------------------------------------------------------------------------------------------------

create table rollcall.context_bundles (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  bundle_type rollcall.bundle_type not null,
  topic_id uuid references rollcall.topic_profiles (id) on delete cascade,
  entity_id uuid references rollcall.entity_profiles (id) on delete cascade,
  conversation_id uuid references rollcall.conversations (id) on delete cascade,
  persona_id uuid references rollcall.personas (id) on delete cascade,
  content text not null,
  token_count int not null,
  memory_ids uuid[] not null default '{}',
  unit_ids uuid[] not null default '{}',
  instruction_ids uuid[] not null default '{}',
  conversation_ids uuid[] not null default '{}',
  topic_ids uuid[] not null default '{}',
  -- As of user_presence.
  version bigint not null default (extract(epoch from clock_timestamp()) * 1000000)::bigint,
  dirty boolean not null default false,
  priority real not null default 50,
  compiled_at timestamptz not null,
  compiled_seeing pg_snapshot not null,
  access_version bigint,
  expires_at timestamptz not null,
  last_used_at timestamptz,
  use_count bigint not null default 0,
  hit_count bigint not null default 0,
  miss_count bigint not null default 0,
  constraint context_bundles_subject unique nulls not distinct
    (user_id, bundle_type, topic_id, entity_id, conversation_id, persona_id),
  constraint context_bundles_is_about_one_thing check (
    (bundle_type = 'topic') = (topic_id is not null)
    and (bundle_type = 'entity') = (entity_id is not null)
    and (bundle_type = 'conversation') = (conversation_id is not null))
) with (fillfactor = 80);
comment on table rollcall.context_bundles is
  'Compiled pieces of prompts. A cache: every row can be compiled again from its sources, and is served only while it '
  'is not dirty, not expired, and no source change was committed that its compilation did not see.';
comment on column rollcall.context_bundles.memory_ids is 'With the other lists of ids: the sources of the bundle.';
comment on column rollcall.context_bundles.compiled_seeing is
  'The snapshot in which its sources were read: changes that it does not see are not in the bundle.';
comment on column rollcall.context_bundles.access_version is
  'The version of policies and grants under which its sources were read: it is served only under that version.';
comment on column rollcall.context_bundles.miss_count is 'How often it was marked as dirty, or needed while not fresh.';
create index context_bundles_topic_id on rollcall.context_bundles (topic_id) where topic_id is not null;
create index context_bundles_entity_id on rollcall.context_bundles (entity_id) where entity_id is not null;
create index context_bundles_conversation_id on rollcall.context_bundles (conversation_id)
  where conversation_id is not null;
create index context_bundles_persona_id on rollcall.context_bundles (persona_id) where persona_id is not null;
alter table rollcall.context_bundles enable row level security;
-- Only the server writes bundles and actions; users may delete bundles.
create policy "own bundles" on rollcall.context_bundles for select to authenticated
  using (user_id = (select auth.uid()));
create policy "users delete their bundles" on rollcall.context_bundles for delete to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.context_bundles
  for all to service_role using (true) with check (true);
revoke all on rollcall.context_bundles from anon, authenticated, service_role;
grant select, delete on rollcall.context_bundles to authenticated;
grant all on rollcall.context_bundles to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.context_bundles', 'user_id', true, 90, null);

create table rollcall.system_actions (
  -- Random: a sequence would count the background work of all users.
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  kind text not null constraint system_actions_kind_is_known check (kind in ('compile', 'warm_up')),
  bundle_id uuid references rollcall.context_bundles (id) on delete cascade,
  trigger text not null,
  status rollcall.action_status not null default 'pending',
  metadata jsonb not null default '{}',
  attempts int not null default 0,
  error text,
  created_at timestamptz not null default now(),
  run_after timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint system_actions_compile_names_a_bundle check ((kind = 'compile') = (bundle_id is not null))
) with (fillfactor = 80);
comment on table rollcall.system_actions is
  'Background work that servers share with SKIP LOCKED. failed: given up after its last attempt.';
-- One entry per bundle, however often it is marked as dirty.
create unique index system_actions_one_pending on rollcall.system_actions (bundle_id) where status = 'pending'
  and bundle_id is not null;
create index system_actions_waiting on rollcall.system_actions (run_after) where status = 'pending';
create index system_actions_under_way on rollcall.system_actions (started_at) where status = 'processing';
create index system_actions_user_id on rollcall.system_actions (user_id, status);
create index system_actions_bundle_id on rollcall.system_actions (bundle_id) where bundle_id is not null;
alter table rollcall.system_actions enable row level security;
create policy "own actions" on rollcall.system_actions for select to authenticated
  using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.system_actions
  for all to service_role using (true) with check (true);
revoke all on rollcall.system_actions from anon, authenticated, service_role;
grant select on rollcall.system_actions to authenticated;
grant all on rollcall.system_actions to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.system_actions', 'user_id', true, 80, null);

-- Invoker: shows what the policies on context_bundles show.
create view rollcall.dirty_bundles with (security_invoker = true) as
  select
    b.user_id, b.id, b.bundle_type, b.topic_id, b.entity_id, b.conversation_id, b.persona_id, b.version,
    case when b.dirty then 'dirty' else 'expired' end as state,
    b.priority, b.compiled_at, b.expires_at, b.use_count, b.last_used_at
  from rollcall.context_bundles b
  where b.dirty or b.expires_at <= now();
comment on view rollcall.dirty_bundles is 'Bundles that must be compiled again before they are served.';
revoke all on rollcall.dirty_bundles from anon, authenticated, service_role;
grant select on rollcall.dirty_bundles to authenticated, service_role;

-- Invoker: shows what the policies on system_actions show.
create view rollcall.invalidation_queue with (security_invoker = true) as
  select
    a.id, a.user_id, a.kind, a.bundle_id, a.trigger, a.status, a.attempts, a.error, a.created_at, a.run_after,
    a.started_at, now() - a.created_at as age
  from rollcall.system_actions a
  where a.finished_at is null;
comment on view rollcall.invalidation_queue is 'Unfinished background work of the context engine, with its age.';
revoke all on rollcall.invalidation_queue from anon, authenticated, service_role;
grant select on rollcall.invalidation_queue to authenticated, service_role;

-- schemas/75_context_freshness.sql -----------------------------------------------------------------------------------

-- No committed change of a source leaves a bundle that looks fresh. A change does two things in its own transaction:
-- it records a row in context_source_changes, and it marks the affected bundles as dirty, queues their compilation and
-- notifies. The recorded row makes it certain: a bundle stores the snapshot in which its sources were read, so every
-- recorded change that this snapshot does not see contradicts it, however transactions interleaved. The flag makes it
-- fast and visible. Recording only inserts: a change waits for no other change and no compilation. Flags of locked
-- bundles are set afterwards (mark_stale_bundles).

create table rollcall_internal.context_source_changes (
  kind text not null,
  user_id uuid,
  key uuid not null,
  refs uuid[],
  xid xid8 not null default pg_current_xact_id(),
  seen_at timestamptz
);
comment on table rollcall_internal.context_source_changes is
  'Recent changes of the sources of the context engine. Deleted some minutes after every bundle was checked.';
comment on column rollcall_internal.context_source_changes.user_id is
  'The user whose bundles are affected; null: bundles of all users about refs.';
comment on column rollcall_internal.context_source_changes.key is
  'Under which bundles look it up: the user; for all users of a conversation, the conversation; else the nil UUID.';
comment on column rollcall_internal.context_source_changes.kind is
  'identity, prefs, memory, topic, label, entity, unit, message, conversation or all. Without a check, which costs as '
  'much as the insert; an unknown kind counts as all.';
-- The first serves reading a bundle, the second storing one: changes that its snapshot does not see are last per key.
create index context_source_changes_unseen on rollcall_internal.context_source_changes (key) where seen_at is null;
create index context_source_changes_key on rollcall_internal.context_source_changes (key, xid);
create index context_source_changes_seen_at on rollcall_internal.context_source_changes (seen_at)
  where seen_at is not null;
-- No policies: only the server uses it.
alter table rollcall_internal.context_source_changes enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.context_source_changes', 'user_id', false, null, 'ids only, deleted after some minutes');

-- Checking ------------------------------------------------------------------------------------------------------------

-- Repeats every rule that selects sources for a bundle: a missing rule leaves stale bundles, an extra one recompiles
-- in vain.
-- Definer: a change affects bundles of other users, as with a message in a shared conversation.
create function rollcall_internal.affected_bundles(p_kind text, p_user uuid, p_refs uuid[]) returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 5
as $$
begin
  case p_kind
    when 'identity' then
      return query select b.id from rollcall.context_bundles b where b.user_id = p_user
        and b.bundle_type = 'identity_core';
    when 'prefs' then
      return query select b.id from rollcall.context_bundles b where b.user_id = p_user
        and b.bundle_type = 'global_prefs';
    when 'memory' then
      -- In it, or matched by the topic's names.
      return query
        select b.id from rollcall.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'topic'
          and (b.memory_ids && p_refs or exists (
            select from rollcall.memories m, rollcall.topic_profiles t
            where m.id = any (p_refs) and t.id = b.topic_id and m.search @@ t.query));
    when 'topic' then
      return query select b.id from rollcall.context_bundles b where b.topic_id = any (p_refs);
    when 'label' then
      -- Conversations list the labels of their topics.
      return query
        select b.id from rollcall.context_bundles b
        where b.user_id = p_user and b.bundle_type = 'conversation'
          and (b.topic_ids && p_refs or b.conversation_id in (
            select l.conversation_id from rollcall.topic_conversations l where l.topic_id = any (p_refs)));
    when 'entity' then
      return query select b.id from rollcall.context_bundles b where b.entity_id = any (p_refs);
    when 'unit' then
      return query
        select b.id from rollcall.context_bundles b
        where b.user_id = p_user and b.bundle_type in ('topic', 'entity')
          and (b.unit_ids && p_refs
            or b.topic_id in (select l.topic_id from rollcall.topic_units l where l.unit_id = any (p_refs))
            or b.entity_id in (select l.entity_id from rollcall.entity_units l where l.unit_id = any (p_refs)));
    when 'message' then
      return query
        select b.id from rollcall.context_bundles b
        where b.conversation_id = any (p_refs) and (p_user is null or b.user_id = p_user);
    when 'conversation' then
      return query
        select b.id from rollcall.context_bundles b where b.conversation_id = any (p_refs)
        union
        -- Topics list their conversations by title.
        select b.id from rollcall.context_bundles b
        join rollcall.topic_conversations l on l.topic_id = b.topic_id
        where l.conversation_id = any (p_refs);
    else
      return query select b.id from rollcall.context_bundles b;
  end case;
end
$$;
comment on function rollcall_internal.affected_bundles is
  'Bundles that a change of sources affects, by the snapshot of the caller.';

-- Among all recorded changes, or among those that are not processed yet. The kinds per type only save work;
-- affected_bundles decides.
-- Definer: reads source changes, which API roles may not; tells of a row that the caller has whether it is stale.
create function rollcall_internal.has_newer_source_change(p_bundle rollcall.context_bundles,
  p_only_unseen boolean) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_kinds constant text[] := case p_bundle.bundle_type
    when 'identity_core' then '{all,identity}'
    when 'global_prefs' then '{all,prefs}'
    when 'topic' then '{all,memory,topic,unit,conversation}'
    when 'entity' then '{all,entity,unit}'
    when 'conversation' then '{all,label,message,conversation}'
    else '{all,identity,prefs,memory,topic,label,entity,unit,message,conversation}' end;
  v_keys constant uuid[] :=
    array[p_bundle.user_id, p_bundle.conversation_id, '00000000-0000-0000-0000-000000000000'::uuid];
begin
  -- Restored into another cluster, a snapshot has no meaning.
  if pg_snapshot_xmax(p_bundle.compiled_seeing) > pg_snapshot_xmax(pg_current_snapshot()) then
    return true;
  end if;
  if p_only_unseen then
    return exists (
      select from rollcall_internal.context_source_changes m
      where m.seen_at is null and m.key = any (v_keys) and m.kind = any (v_kinds)
        and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
        and p_bundle.id in (select rollcall_internal.affected_bundles(m.kind, m.user_id, m.refs)));
  end if;
  return exists (
    select from rollcall_internal.context_source_changes m
    where m.key = any (v_keys) and m.xid >= pg_snapshot_xmin(p_bundle.compiled_seeing) and m.kind = any (v_kinds)
      and not pg_visible_in_snapshot(m.xid, p_bundle.compiled_seeing)
      and p_bundle.id in (select rollcall_internal.affected_bundles(m.kind, m.user_id, m.refs)));
end
$$;
comment on function rollcall_internal.has_newer_source_change is
  'Whether a source change was committed that the compilation of this bundle did not see.';

-- Invoker: computes from its argument.
create function rollcall_internal.bundle_ttl(p_type rollcall.bundle_type) returns interval
  language sql immutable parallel safe security invoker set search_path = ''
as $$
  select case p_type
    when 'identity_core' then interval '24 hours'
    when 'global_prefs' then interval '12 hours'
    when 'topic' then interval '4 hours'
    when 'entity' then interval '6 hours'
    else interval '30 minutes' end
$$;
comment on function rollcall_internal.bundle_ttl is 'The longest time that a bundle of a type may be served.';

-- Changes that were processed are dirty flags by now (mark_stale_bundles), and no bundle was stored past them
-- (store_bundles), so only unprocessed ones are examined; most of the time there is none.
-- Definer: see has_newer_source_change.
create function rollcall_internal.is_fresh(p_bundle rollcall.context_bundles) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
begin
  return not p_bundle.dirty and p_bundle.expires_at > clock_timestamp()
    and p_bundle.access_version = rollcall.context_access_version()
    and not rollcall_internal.has_newer_source_change(p_bundle, true);
end
$$;
comment on function rollcall_internal.is_fresh is
  'Whether a bundle may be served now: not dirty, not expired, under current policies, no newer source change.';

-- Recording -----------------------------------------------------------------------------------------------------------

-- Skips bundles that are dirty or locked. Notifies even if all were skipped: nodes then process recorded changes.
-- Definer: only the server writes bundles and their queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.flag_bundles(p_bundles uuid[], p_trigger text) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_users uuid[];
  v_count bigint;
begin
  perform rollcall_internal.check_search_path();
  with free as (
    select b.id from rollcall.context_bundles b
    where b.id = any (p_bundles) and not b.dirty
    order by b.id for no key update skip locked
  ),
  flagged as (
    update rollcall.context_bundles b set dirty = true, miss_count = b.miss_count + 1
    from free where b.id = free.id
    returning b.id, b.user_id
  ),
  queued as (
    insert into rollcall.system_actions (user_id, kind, bundle_id, trigger)
    select f.user_id, 'compile', f.id, p_trigger from flagged f
    on conflict (bundle_id) where status = 'pending' and bundle_id is not null do nothing
  )
  select array_agg(distinct f.user_id), count(*) into v_users, v_count from flagged f;
  -- Also if all were locked: nodes then process recorded changes.
  if v_count > 0 or cardinality(p_bundles) > 0 then
    perform rollcall_internal.notify('rollcall_bundles', 'stale');
  end if;
  return v_count;
end
$$;
comment on function rollcall_internal.flag_bundles is
  'Marks bundles as dirty, counts a miss each and queues their compilation; returns how many.';

-- In a snapshot that began earlier the bundles may have been replaced since: there only the recorded change counts,
-- and the node that is notified sets the flags.
-- Definer: called from triggers of any writer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.flag_affected_bundles(p_clean uuid[], p_trigger text) returns void
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    perform rollcall_internal.notify('rollcall_bundles', 'stale');
  elsif p_clean is not null then
    perform rollcall_internal.flag_bundles(p_clean, p_trigger);
  end if;
end
$$;
comment on function rollcall_internal.flag_affected_bundles is 'Marks bundles that a change affects as dirty.';

-- The lists have one length; nulls as in context_source_changes.
-- Definer: called from triggers of any writer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.record_source_changes(p_trigger text, p_kinds text[], p_users uuid[],
  p_refs uuid[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_clean uuid[];
begin
  perform rollcall_internal.check_search_path();
  with marked as (
    insert into rollcall_internal.context_source_changes (kind, user_id, key, refs)
      select c.kind, c.user_id,
        coalesce(c.user_id, case c.kind when 'message' then c.ref else '00000000-0000-0000-0000-000000000000' end),
        array_agg(distinct c.ref)
      from unnest(p_kinds, p_users, p_refs) as c (kind, user_id, ref)
      group by 1, 2, 3
    returning kind, user_id, refs
  )
  select array_agg(distinct b.id) into v_clean
  from marked m cross join lateral rollcall_internal.affected_bundles(m.kind, m.user_id, m.refs) t
  join rollcall.context_bundles b on b.id = t and not b.dirty;
  perform rollcall_internal.flag_affected_bundles(v_clean, p_trigger);
end
$$;
comment on function rollcall_internal.record_source_changes is
  'Records changes of sources and marks the affected bundles as dirty.';

-- No bundle is stored while this runs (the lock, which store_bundles shares). So every bundle that exists afterwards
-- was checked here, or is checked against all recorded changes when it is stored.
-- Definer: acts on bundles of all users; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.mark_stale_bundles() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_marks tid[];
  v_touched uuid[];
  v_count bigint := 0;
begin
  perform rollcall_internal.check_search_path();
  if not exists (select from rollcall_internal.context_source_changes m where m.seen_at is null) then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('rollcall.context_bundles', 0));
  with unseen as materialized (
    select m.ctid, m.kind, m.user_id, m.refs from rollcall_internal.context_source_changes m
      where m.seen_at is null limit 10000
  ),
  clean as materialized (
    select distinct b.id
    from (select distinct u.kind, u.user_id, u.refs from unseen u) d
    cross join lateral rollcall_internal.affected_bundles(d.kind, d.user_id, d.refs) t
    join rollcall.context_bundles b on b.id = t and not b.dirty
  )
  select array(select u.ctid from unseen u), array(
      select b.id from clean c join rollcall.context_bundles b on b.id = c.id
        and rollcall_internal.has_newer_source_change(b, true))
    into v_marks, v_touched;
  if v_touched <> '{}' then
    v_count := rollcall_internal.flag_bundles(v_touched, 'settled');
  end if;
  -- If a bundle was locked, the changes are processed again. Only the holder of the lock updates them.
  if v_count = cardinality(v_touched) then
    update rollcall_internal.context_source_changes m set seen_at = clock_timestamp() where m.ctid = any (v_marks);
  end if;
  return v_count;
end
$$;
comment on function rollcall_internal.mark_stale_bundles is
  'Sets the dirty flags that recorded changes still require; returns how many.';

-- Words of topics -----------------------------------------------------------------------------------------------------

-- None for a name of stop words only, as in names_tsquery.
-- Invoker: computes from its arguments.
create function rollcall_internal.name_lexemes(p_name text, p_aliases text[]) returns setof text
  language sql immutable parallel safe security invoker set search_path = ''
as $$
  select distinct w.word
  from unnest(array[p_name] || coalesce(p_aliases, '{}')) n (name)
  cross join lateral (
    select l.lexeme as word from unnest(to_tsvector('pg_catalog.english', n.name)) l
    order by length(l.lexeme) desc, l.lexeme limit 1
  ) w
$$;
comment on function rollcall_internal.name_lexemes is
  'One lexeme for each of these names that every text with the name contains.';

-- A memory is compared with the topics that share a lexeme with it, not with all topics of the user.
create table rollcall_internal.topic_words (
  user_id uuid not null,
  word text not null,
  topic_id uuid not null references rollcall.topic_profiles (id) on delete cascade,
  constraint topic_words_pkey primary key (user_id, word, topic_id)
);
comment on table rollcall_internal.topic_words is
  'One lexeme of each name of a topic: texts without any of them are not about the topic.';
create index topic_words_topic_id on rollcall_internal.topic_words (topic_id);
-- No policies: only the server uses it.
alter table rollcall_internal.topic_words enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall_internal.topic_words', 'user_id', false, null,
    'words of the user''s topics, which are exported; deleted with the topic');

-- Definer: only the server writes the table.
create function rollcall_internal.sync_topic_words() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    delete from rollcall_internal.topic_words w where w.topic_id = new.id;
  end if;
  insert into rollcall_internal.topic_words (user_id, word, topic_id)
    select new.user_id, w.word, new.id from rollcall_internal.name_lexemes(new.label, new.aliases) w (word);
  return null;
end
$$;
comment on function rollcall_internal.sync_topic_words is 'Trigger function: keeps topic_words in step with a topic.';

create trigger sync_topic_words_of_new after insert on rollcall.topic_profiles
  for each row execute function rollcall_internal.sync_topic_words();
create trigger sync_topic_words after update of user_id, label, aliases on rollcall.topic_profiles
  for each row when ((old.user_id, old.label, old.aliases) is distinct from (new.user_id, new.label, new.aliases))
  execute function rollcall_internal.sync_topic_words();

-- Triggers of sources -------------------------------------------------------------------------------------------------

-- The transition tables new_rows and old_rows hold the changed rows. Conditions list every column that is part of a
-- bundle.

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_context_truncated() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.record_source_changes('truncated', array['all'], array[null::uuid], array[null::uuid]);
  return null;
end
$$;
comment on function rollcall_internal.on_context_truncated is 'Trigger function: TRUNCATE affects every bundle.';

-- An empty message that a model is writing is in no bundle.
-- Definer: writers need no right on bundles, recorded changes and queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_messages_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_clean uuid[];
  v_conversations uuid[];
begin
  perform rollcall_internal.check_search_path();
  if tg_op = 'INSERT' then
    with marked as (
      insert into rollcall_internal.context_source_changes (kind, key, refs)
        select 'message', c.conversation_id, array[c.conversation_id] from new_rows c where c.state <> 'pending'
        group by c.conversation_id
      returning key
    )
    select array_agg(b.id) into v_clean
    from marked m join rollcall.context_bundles b on b.conversation_id = m.key where not b.dirty;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      perform rollcall_internal.flag_affected_bundles(v_clean, 'message_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select array_agg(distinct g.conversation_id) into v_conversations from old_rows g where g.state <> 'pending';
  else
    select array_agg(distinct x.conversation_id) into v_conversations
    from old_rows g join new_rows c on c.id = g.id
    cross join lateral (values (g.conversation_id), (c.conversation_id)) x (conversation_id)
    where (g.conversation_id, g.role, g.content, g.state, g.user_id, g.created_at, g.message_index)
      is distinct from (c.conversation_id, c.role, c.content, c.state, c.user_id, c.created_at, c.message_index);
  end if;
  if v_conversations is not null then
    perform rollcall_internal.record_source_changes('message_' || case tg_op when 'DELETE' then 'deleted'
      else 'updated' end,
      array_fill('message'::text, array[cardinality(v_conversations)]),
      array_fill(null::uuid, array[cardinality(v_conversations)]), v_conversations);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_messages_changed is
  'Trigger function: changed messages affect the bundles of their conversation.';

create trigger context_after_insert after insert on rollcall.messages
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_messages_changed();
create trigger context_after_update after update on rollcall.messages
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_messages_changed();
create trigger context_after_delete after delete on rollcall.messages
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_messages_changed();
create trigger context_after_truncate after truncate on rollcall.messages
  for each statement execute function rollcall_internal.on_context_truncated();

-- Invoker: computes from its arguments.
create function rollcall_internal.memory_kinds(p_id uuid, p_category text, p_importance real, p_is_active boolean,
  p_is_pinned boolean)
  returns table (kind text, ref uuid)
  language sql immutable security invoker set search_path = '' rows 2
as $$
  select 'identity', null::uuid
    where p_is_active and (p_is_pinned or p_category in ('biography', 'identity', 'role')
      and p_importance >= 0.8::real)
  union all
  select 'prefs', null where p_is_active and p_category = 'preference' and p_importance >= 0.6::real
  union all
  select 'memory', p_id where p_is_active
$$;
comment on function rollcall_internal.memory_kinds is 'The kinds of source change that a memory can cause.';

-- Several small statements, because they start faster than one large one: most memories match no topic, few are
-- identity.
-- Definer: see on_messages_changed.
-- Over 60 lines: insert, delete and update differ in how they find bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_memories_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_clean uuid[];
  v_memories uuid[];
  v_topics uuid[];
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  if tg_op = 'INSERT' then
    insert into rollcall_internal.context_source_changes (kind, user_id, key, refs)
      select 'memory', c.user_id, c.user_id, array_agg(c.id) from new_rows c where c.is_active group by c.user_id;
    if exists (
      select from new_rows c
      where c.is_active and (c.is_pinned or c.category in ('biography', 'identity', 'role')
          and c.importance >= 0.8::real
        or c.category = 'preference' and c.importance >= 0.6::real)
    ) then
      with marked as (
        insert into rollcall_internal.context_source_changes (kind, user_id, key)
          select distinct k.kind, c.user_id, c.user_id
          from new_rows c cross join lateral rollcall_internal.memory_kinds(c.id, c.category, c.importance,
            c.is_active, c.is_pinned) k
          where k.kind <> 'memory'
        returning kind, user_id
      )
      select array_agg(b.id) into v_clean
      from marked m
      join rollcall.context_bundles b on b.user_id = m.user_id and not b.dirty
        and b.bundle_type = case m.kind when 'identity' then 'identity_core'
          else 'global_prefs' end::rollcall.bundle_type;
    end if;
    -- Rows are looked up by key one by one (hence `offset 0`): plans are generic and do not know how few there are.
    select array_agg(c.id), array_agg(w.topic_id) into v_memories, v_topics
    from new_rows c
    cross join lateral unnest(c.search) l
    cross join lateral (
      select w.topic_id from rollcall_internal.topic_words w where w.user_id = c.user_id
        and w.word = l.lexeme offset 0) w
    where c.is_active;
    if v_topics is not null then
      select v_clean || array_agg(distinct b.id) into v_clean
      from unnest(v_memories, v_topics) x (memory_id, topic_id)
      cross join lateral (select m.search from rollcall.memories m where m.id = x.memory_id offset 0) m
      cross join lateral (
        select t.user_id from rollcall.topic_profiles t where t.id = x.topic_id and m.search @@ t.query offset 0) t
      cross join lateral (
        select b.id from rollcall.context_bundles b
        where b.topic_id = x.topic_id and b.user_id = t.user_id and not b.dirty offset 0) b;
    end if;
    if v_clean is not null or current_setting('transaction_isolation') <> 'read committed' then
      perform rollcall_internal.flag_affected_bundles(v_clean, 'memory_created');
    end if;
    return null;
  elsif tg_op = 'DELETE' then
    select array_agg(k.kind), array_agg(g.user_id), array_agg(k.ref) into v_kinds, v_users, v_refs
    from old_rows g
    cross join lateral rollcall_internal.memory_kinds(g.id, g.category, g.importance, g.is_active, g.is_pinned) k;
  else
    select array_agg(x.kind), array_agg(x.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from old_rows g join new_rows c on c.id = g.id
    cross join lateral (
      select k.kind, g.user_id, k.ref
      from rollcall_internal.memory_kinds(g.id, g.category, g.importance, g.is_active, g.is_pinned) k
      union
      select k.kind, c.user_id, k.ref
      from rollcall_internal.memory_kinds(c.id, c.category, c.importance, c.is_active, c.is_pinned) k
    ) x
    where (g.user_id, g.content, g.category, g.importance, g.is_active, g.is_pinned, g.created_at)
      is distinct from (c.user_id, c.content, c.category, c.importance, c.is_active, c.is_pinned, c.created_at);
  end if;
  if v_kinds is not null then
    perform rollcall_internal.record_source_changes('memory_' || case tg_op when 'DELETE' then 'deleted'
      else 'updated' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_memories_changed is
  'Trigger function: changed memories affect identity, preferences and topics that match them.';

create trigger context_after_insert after insert on rollcall.memories
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_memories_changed();
create trigger context_after_update after update on rollcall.memories
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_memories_changed();
create trigger context_after_delete after delete on rollcall.memories
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_memories_changed();
create trigger context_after_truncate after truncate on rollcall.memories
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_instructions_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  if tg_op = 'INSERT' then
    select array_agg(case c.scope when 'topic' then 'topic' else 'prefs' end), array_agg(c.user_id),
      array_agg(c.topic_id)
      into v_kinds, v_users, v_refs from new_rows c where c.is_active;
  elsif tg_op = 'DELETE' then
    select array_agg(case g.scope when 'topic' then 'topic' else 'prefs' end), array_agg(g.user_id),
      array_agg(g.topic_id)
      into v_kinds, v_users, v_refs from old_rows g where g.is_active;
  else
    select array_agg(case x.scope when 'topic' then 'topic' else 'prefs' end), array_agg(x.user_id),
      array_agg(x.topic_id)
      into v_kinds, v_users, v_refs
    from old_rows g join new_rows c on c.id = g.id
    cross join lateral (values (g.scope, g.user_id, g.topic_id, g.is_active),
      (c.scope, c.user_id, c.topic_id, c.is_active))
      x (scope, user_id, topic_id, is_active)
    where x.is_active
      and (g.user_id, g.content, g.scope, g.topic_id, g.priority, g.is_active, g.created_at)
        is distinct from (c.user_id, c.content, c.scope, c.topic_id, c.priority, c.is_active, c.created_at);
  end if;
  if v_kinds is not null then
    perform rollcall_internal.record_source_changes(case tg_op when 'DELETE' then 'instruction_deleted'
      else 'instruction_changed' end, v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_instructions_changed is
  'Trigger function: changed instructions affect preferences or their topic.';

create trigger context_after_insert after insert on rollcall.custom_instructions
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_instructions_changed();
create trigger context_after_update after update on rollcall.custom_instructions
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_instructions_changed();
create trigger context_after_delete after delete on rollcall.custom_instructions
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_instructions_changed();
create trigger context_after_truncate after truncate on rollcall.custom_instructions
  for each statement execute function rollcall_internal.on_context_truncated();

-- A new unit is in no topic or entity until it is linked; links have triggers of their own, also when a unit is
-- deleted.
-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_units_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  select array_agg(x.user_id), array_agg(c.id) into v_users, v_refs
  from old_rows g join new_rows c on c.id = g.id
  cross join lateral (select g.user_id union select c.user_id) x (user_id)
  where (g.user_id, g.content, g.unit_type, g.quality, g.state, g.created_at)
    is distinct from (c.user_id, c.content, c.unit_type, c.quality, c.state, c.created_at);
  if v_refs is not null then
    perform rollcall_internal.record_source_changes('acu_updated', array_fill('unit'::text, array[cardinality(v_refs)]),
      v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_units_changed is
  'Trigger function: changed units affect their topics and entities.';

create trigger context_after_update after update on rollcall.atomic_chat_units
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_units_changed();
create trigger context_after_truncate after truncate on rollcall.atomic_chat_units
  for each statement execute function rollcall_internal.on_context_truncated();

-- A deletion removes its bundle. A row restored with the same id must not get a bundle that was compiled before the
-- deletion. Topics and entities have an owner; a conversation belongs to all participants.
-- Definer: see record_source_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_bundle_subjects_deleted() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.record_source_changes(tg_argv[0] || '_deleted', array_agg(tg_argv[0]),
    array_agg((to_jsonb(g) ->> 'user_id')::uuid), array_agg(g.id))
  from old_rows g having count(*) > 0;
  return null;
end
$$;
comment on function rollcall_internal.on_bundle_subjects_deleted is
  'Trigger function: records the deletion of a topic, entity or conversation.';

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_topics_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  select array_agg(x.kind), array_agg(x.user_id), array_agg(c.id) into v_kinds, v_users, v_refs
  from old_rows g join new_rows c on c.id = g.id
  cross join lateral (
    select 'topic' as kind, c.user_id
    union all
    select 'label', u.user_id from (select g.user_id union select c.user_id) u (user_id)
      where g.label is distinct from c.label or g.user_id <> c.user_id
  ) x
  where (g.user_id, g.label, g.aliases, g.domain, g.conversation_count, g.unit_count, g.message_count,
    g.last_engaged_at,
      g.streak_days, g.proficiency, g.importance)
    is distinct from (c.user_id, c.label, c.aliases, c.domain, c.conversation_count, c.unit_count, c.message_count,
      c.last_engaged_at, c.streak_days, c.proficiency, c.importance);
  if v_refs is not null then
    perform rollcall_internal.record_source_changes('topic_updated', v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_topics_changed is
  'Trigger function: changed topics affect their bundle and, by label, conversations.';

create trigger context_after_update after update on rollcall.topic_profiles
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_topics_changed();
create trigger context_after_truncate after truncate on rollcall.topic_profiles
  for each statement execute function rollcall_internal.on_context_truncated();

create trigger context_after_delete after delete on rollcall.topic_profiles
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_bundle_subjects_deleted('topic');

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_entities_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  select array_agg(c.user_id), array_agg(c.id) into v_users, v_refs
  from old_rows g join new_rows c on c.id = g.id
  where (g.user_id, g.name, g.aliases, g.entity_type, g.relationship, g.sentiment, g.facts, g.mention_count,
      g.conversation_count, g.last_mentioned_at, g.importance)
    is distinct from (c.user_id, c.name, c.aliases, c.entity_type, c.relationship, c.sentiment, c.facts,
      c.mention_count,
      c.conversation_count, c.last_mentioned_at, c.importance);
  if v_refs is not null then
    perform rollcall_internal.record_source_changes('entity_updated',
      array_fill('entity'::text, array[cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_entities_changed is 'Trigger function: changed entities affect their bundle.';

create trigger context_after_update after update on rollcall.entity_profiles
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_entities_changed();
create trigger context_after_truncate after truncate on rollcall.entity_profiles
  for each statement execute function rollcall_internal.on_context_truncated();

create trigger context_after_delete after delete on rollcall.entity_profiles
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_bundle_subjects_deleted('entity');

-- For each row, because its `when` condition costs no function call, and every message updates last_message_at, which
-- is in no bundle.
-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_conversation_changed() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  perform rollcall_internal.record_source_changes('conversation_updated', array['conversation'], array[null::uuid],
    array[new.id]);
  return null;
end
$$;
comment on function rollcall_internal.on_conversation_changed is
  'Trigger function: a changed title affects the bundles of the conversation and its topics.';

create trigger context_after_update after update of title, created_at, created_by on rollcall.conversations
  for each row when ((old.title, old.created_at, old.created_by) is distinct
    from (new.title, new.created_at, new.created_by))
  execute function rollcall_internal.on_conversation_changed();
create trigger context_after_delete after delete on rollcall.conversations
  referencing old table as old_rows for each statement
    execute function rollcall_internal.on_bundle_subjects_deleted('conversation');

create trigger context_after_truncate after truncate on rollcall.conversations
  for each statement execute function rollcall_internal.on_context_truncated();

-- They see another conversation, and other titles in their topics.
-- Definer: see record_source_changes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.record_participant_changes(p_conversations uuid[], p_users uuid[]) returns void
  language plpgsql volatile security definer
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  select array_agg(x.kind), array_agg(p.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
  from unnest(p_conversations, p_users) p (conversation_id, user_id)
  cross join lateral (
    select 'message' as kind, p.conversation_id as ref
    union all
    select 'topic', l.topic_id from rollcall.topic_conversations l
    where l.conversation_id = p.conversation_id and l.user_id = p.user_id) x;
  if v_kinds is not null then
    perform rollcall_internal.record_source_changes('conversation_updated', v_kinds, v_users, v_refs);
  end if;
end
$$;
comment on function rollcall_internal.record_participant_changes is
  'Records the source changes of participants that join or leave.';

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_participants_changed() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  if tg_op <> 'INSERT' then
    perform rollcall_internal.record_participant_changes(array_agg(g.conversation_id), array_agg(g.user_id))
      from old_rows g;
  end if;
  if tg_op <> 'DELETE' then
    perform rollcall_internal.record_participant_changes(array_agg(c.conversation_id), array_agg(c.user_id))
      from new_rows c;
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_participants_changed is
  'Trigger function: changed participants affect the bundles of their users.';

create trigger context_after_insert after insert on rollcall.conversation_participants
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_participants_changed();
create trigger context_after_update after update on rollcall.conversation_participants
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_participants_changed();
create trigger context_after_delete after delete on rollcall.conversation_participants
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_participants_changed();
create trigger context_after_truncate after truncate on rollcall.conversation_participants
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_topic_conversations_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_kinds text[];
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  if tg_op = 'INSERT' then
    select array_agg(x.kind), array_agg(c.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from new_rows c cross join lateral (values ('topic', c.topic_id), ('message', c.conversation_id)) x (kind, ref);
  elsif tg_op = 'DELETE' then
    select array_agg(x.kind), array_agg(g.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from old_rows g cross join lateral (values ('topic', g.topic_id), ('message', g.conversation_id)) x (kind, ref);
  else
    -- The key may change as well, so old and new rows are not matched: rows in both are no change.
    select array_agg(x.kind), array_agg(d.user_id), array_agg(x.ref) into v_kinds, v_users, v_refs
    from (
      (select topic_id, conversation_id, user_id, relevance from old_rows
        except select topic_id, conversation_id, user_id, relevance from new_rows)
      union all
      (select topic_id, conversation_id, user_id, relevance from new_rows
        except select topic_id, conversation_id, user_id, relevance from old_rows)
    ) d cross join lateral (values ('topic', d.topic_id), ('message', d.conversation_id)) x (kind, ref);
  end if;
  if v_kinds is not null then
    perform rollcall_internal.record_source_changes('topic_updated', v_kinds, v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_topic_conversations_changed is
  'Trigger function: changed links affect the bundles of topic and conversation.';

create trigger context_after_insert after insert on rollcall.topic_conversations
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_topic_conversations_changed();
create trigger context_after_update after update on rollcall.topic_conversations
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_topic_conversations_changed();
create trigger context_after_delete after delete on rollcall.topic_conversations
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_topic_conversations_changed();
create trigger context_after_truncate after truncate on rollcall.topic_conversations
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_topic_units_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  if tg_op = 'INSERT' then
    select array_agg(c.user_id), array_agg(c.topic_id) into v_users, v_refs
    from (select distinct user_id, topic_id from new_rows) c;
  elsif tg_op = 'DELETE' then
    select array_agg(g.user_id), array_agg(g.topic_id) into v_users, v_refs
    from (select distinct user_id, topic_id from old_rows) g;
  else
    select array_agg(d.user_id), array_agg(d.topic_id) into v_users, v_refs
    from (
      (select topic_id, unit_id, user_id, relevance from old_rows except select topic_id, unit_id, user_id, relevance
        from new_rows)
      union all
      (select topic_id, unit_id, user_id, relevance from new_rows except select topic_id, unit_id, user_id, relevance
        from old_rows)
    ) d;
  end if;
  if v_refs is not null then
    perform rollcall_internal.record_source_changes('acu_linked', array_fill('topic'::text, array[cardinality(v_refs)]),
      v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_topic_units_changed is
  'Trigger function: changed links of units affect the bundles of their topics.';

create trigger context_after_insert after insert on rollcall.topic_units
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_topic_units_changed();
create trigger context_after_update after update on rollcall.topic_units
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_topic_units_changed();
create trigger context_after_delete after delete on rollcall.topic_units
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_topic_units_changed();
create trigger context_after_truncate after truncate on rollcall.topic_units
  for each statement execute function rollcall_internal.on_context_truncated();

-- Definer: see on_messages_changed.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.on_entity_units_changed() returns trigger
  language plpgsql volatile security definer
as $$
declare
  v_users uuid[];
  v_refs uuid[];
begin
  perform rollcall_internal.check_search_path();
  if tg_op = 'INSERT' then
    select array_agg(c.user_id), array_agg(c.entity_id) into v_users, v_refs
    from (select distinct user_id, entity_id from new_rows) c;
  elsif tg_op = 'DELETE' then
    select array_agg(g.user_id), array_agg(g.entity_id) into v_users, v_refs
    from (select distinct user_id, entity_id from old_rows) g;
  else
    select array_agg(d.user_id), array_agg(d.entity_id) into v_users, v_refs
    from (
      (select entity_id, unit_id, user_id from old_rows except select entity_id, unit_id, user_id from new_rows)
      union all
      (select entity_id, unit_id, user_id from new_rows except select entity_id, unit_id, user_id from old_rows)
    ) d;
  end if;
  if v_refs is not null then
    perform rollcall_internal.record_source_changes('acu_linked',
      array_fill('entity'::text, array[cardinality(v_refs)]), v_users, v_refs);
  end if;
  return null;
end
$$;
comment on function rollcall_internal.on_entity_units_changed is
  'Trigger function: changed links of units affect the bundles of their entities.';

create trigger context_after_insert after insert on rollcall.entity_units
  referencing new table as new_rows
  for each statement execute function rollcall_internal.on_entity_units_changed();
create trigger context_after_update after update on rollcall.entity_units
  referencing old table as old_rows new table as new_rows
  for each statement execute function rollcall_internal.on_entity_units_changed();
create trigger context_after_delete after delete on rollcall.entity_units
  referencing old table as old_rows
  for each statement execute function rollcall_internal.on_entity_units_changed();
create trigger context_after_truncate after truncate on rollcall.entity_units
  for each statement execute function rollcall_internal.on_context_truncated();

-- Policies and grants -------------------------------------------------------------------------------------------------

-- A bundle is compiled from what its user was allowed to see. So it stores the version of policies and grants under
-- which it was compiled, and is served only under that version, and a bundle of a conversation only to users that see
-- the conversation now. Versions consist of transaction IDs: a change and its reversal give a new version, except that
-- dropping a new policy gives the version before it.

create table rollcall_internal.context_access_version (
  only_row boolean primary key default true constraint context_access_is_one_row check (only_row),
  version bigint not null
);
comment on table rollcall_internal.context_access_version is
  'The version of policies and grants that bundles were last stored or checked under. One row.';
-- No policies: only the server uses it.
alter table rollcall_internal.context_access_version enable row level security;

-- The tables, their columns with grants, their policies, and the functions that these call.
-- Definer: reads catalogs only.
create function rollcall_internal.context_catalog() returns table (catalog regclass, id bigint, version xid)
  language plpgsql stable security definer set search_path = '' rows 60
as $$
begin
  return query
    with source as materialized (
      select c.oid, c.xmin from pg_catalog.pg_class c
      where c.relnamespace = 'rollcall'::regnamespace
        and c.relname in ('conversations', 'conversation_participants', 'messages',
        'atomic_chat_units', 'memories', 'custom_instructions', 'topic_profiles', 'entity_profiles',
          'topic_conversations',
        'entity_conversations', 'topic_units', 'entity_units')
    ),
    policy as materialized (
      select p.oid, p.xmin from source s
      cross join lateral (select p.oid, p.xmin from pg_catalog.pg_policy p where p.polrelid = s.oid offset 0) p
    ),
    called as (
      select distinct d.refobjid as oid from policy p
      cross join lateral (
        select d.refobjid from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
          and d.refclassid = 'pg_catalog.pg_proc'::regclass
        offset 0) d
    )
    select 'pg_catalog.pg_class'::regclass, s.oid::bigint, s.xmin from source s
    union all
    select 'pg_catalog.pg_attribute'::regclass, s.oid::bigint << 16 | a.attnum, a.xmin
    from source s cross join lateral (
      select a.attnum, a.xmin from pg_catalog.pg_attribute a
      where a.attrelid = s.oid and a.attnum > 0 and a.attacl is not null offset 0) a
    union all
    select 'pg_catalog.pg_policy'::regclass, p.oid::bigint, p.xmin from policy p
    union all
    select 'pg_catalog.pg_proc'::regclass, f.oid::bigint, f.xmin
    from called c cross join lateral (select f.oid, f.xmin from pg_catalog.pg_proc f where f.oid = c.oid offset 0) f;
end
$$;
comment on function rollcall_internal.context_catalog is
  'Catalog rows that decide who may see the sources of bundles, each with the transaction that wrote it.';

-- Definer: reads catalogs only; returns a hash of their versions.
create function rollcall.context_access_version() returns bigint
  language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(
      bit_xor(hashint8extended(c.version::text::bigint, hashint8extended(c.id, c.catalog::oid::bigint))), 0)
    from rollcall_internal.context_catalog() c);
end
$$;
comment on function rollcall.context_access_version is
  'One number for the version of policies and grants on the sources of bundles. Every change gives a new number.';
grant execute on function rollcall.context_access_version to authenticated, service_role;

-- For readers of sources: p_before is the version in the snapshot of the reading statement. This function is volatile,
-- so that it looks in a newer snapshot. Policies cannot change while the sources are locked, but row-level security
-- applies them as they were when the lock was taken; grants and functions may change during the statement.
-- Definer: see context_access_version.
create function rollcall.confirmed_access_version(p_before bigint) returns bigint
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  return case when rollcall.context_access_version() = p_before then p_before end;
end
$$;
comment on function rollcall.confirmed_access_version is
  'The access version of sources that were just read; null where it changed meanwhile: nothing is served of them.';
grant execute on function rollcall.confirmed_access_version to authenticated, service_role;

-- The flags make other versions visible in views and counts. They are not queued: each bundle is compiled when it is
-- next needed.
-- Definer: only the server writes bundles; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.mark_stale_by_access() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_version constant bigint := rollcall.context_access_version();
  v_count bigint;
begin
  perform rollcall_internal.check_search_path();
  if exists (select from rollcall_internal.context_access_version a where a.version = v_version) then
    return 0;
  end if;
  update rollcall.context_bundles b set dirty = true, miss_count = b.miss_count + 1
  from (
    select f.id from rollcall.context_bundles f
    where not f.dirty and f.access_version is distinct from v_version
    order by f.id for no key update skip locked
  ) free
  where b.id = free.id;
  get diagnostics v_count = row_count;
  insert into rollcall_internal.context_access_version as a (version) values (v_version)
    on conflict (only_row) do update set version = excluded.version;
  return v_count;
end
$$;
comment on function rollcall_internal.mark_stale_by_access is
  'Marks bundles of other policies and grants as dirty; returns how many.';

-- In the statement and snapshot of the caller. Without unprocessed changes none can be stale; otherwise each is
-- checked.
-- Definer: reads source changes, which API roles may not; answers for auth.uid() only.
create function rollcall.my_fresh_bundles(p_bundles uuid[]) returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 10
as $$
declare
  v_me constant uuid := auth.uid();
  v_access constant bigint := rollcall.context_access_version();
begin
  return query
    with mine as materialized (
      select b.bundle, b.id, b.conversation_id
      from unnest(p_bundles) i (id)
      cross join lateral (
        select b as bundle, b.id, b.conversation_id from rollcall.context_bundles b
        where b.id = i.id and b.user_id = v_me and not b.dirty and b.expires_at > clock_timestamp()
          and b.access_version = v_access
          -- Restored into another cluster, a snapshot has no meaning.
          and pg_snapshot_xmax(b.compiled_seeing) <= pg_snapshot_xmax(pg_current_snapshot())
        offset 0) b
    ),
    marks as materialized (
      select exists (
        select from rollcall_internal.context_source_changes k
        where k.seen_at is null and k.key = any (
          array[v_me, '00000000-0000-0000-0000-000000000000'] || array(select m.conversation_id from mine m)))
            as are_there
    )
    select m.id from mine m cross join marks k where not k.are_there or rollcall_internal.is_fresh(m.bundle);
end
$$;
comment on function rollcall.my_fresh_bundles is 'Which of the callers bundles may be served now.';
grant execute on function rollcall.my_fresh_bundles to authenticated, service_role;

-- schemas/80_context_assembly.sql ------------------------------------------------------------------------------------

-- Reading for the context engine: the sources of a bundle, what a message is about, and everything that one prompt
-- needs, in one call each. All of it runs as the caller, so row-level security decides about every row in a prompt.
-- What every prompt calls is in PL/pgSQL: the body of an SQL function is planned again in every statement that calls
-- it.

-- Only bitmap scans: the planner expects a limit to be reached early, which rows with rare combinations of frequent
-- words do not.
-- Definer: see match_words; called by it only.
create function rollcall_internal.my_matches(p_kind text, p_user uuid, p_query tsquery, p_limit int) returns uuid[]
  language plpgsql stable security definer set search_path = '' set enable_seqscan = off set enable_indexscan = off
as $$
begin
  if p_kind = 'unit' then
    return array(select u.id from rollcall.atomic_chat_units u
      where u.user_id = p_user and u.state = 'active' and u.search @@ p_query limit p_limit);
  end if;
  return array(select m.id from rollcall.memories m
    where m.user_id = p_user and m.is_active and m.search @@ p_query limit p_limit);
end
$$;
comment on function rollcall_internal.my_matches is 'Ids of at most p_limit rows that match, in no order.';

-- Definer: see match_words; called by it only.
create function rollcall_internal.my_newest_matches(p_kind text, p_user uuid, p_query tsquery, p_among int,
  p_limit int) returns uuid[]
  language plpgsql stable security definer set search_path = ''
as $$
begin
  if p_query is null then
    return '{}';
  elsif p_kind = 'unit' then
    return array(
      select n.id
      from (
        select u.id, u.search, u.state from rollcall.atomic_chat_units u where u.user_id = p_user
        order by u.created_at desc limit p_among
      ) n
      where n.state = 'active' and n.search @@ p_query limit p_limit);
  end if;
  return array(
    select n.id
    from (
      select m.id, m.search, m.is_active from rollcall.memories m where m.user_id = p_user
      order by m.created_at desc limit p_among
    ) n
    where n.is_active and n.search @@ p_query limit p_limit);
end
$$;
comment on function rollcall_internal.my_newest_matches is
  'Ids of at most p_limit matching rows among the newest p_among rows of the user.';

-- Of the languages that PostgreSQL has stop words for, the one with most stop words in the text; English on a tie.
-- Invoker: computes from its argument.
create function rollcall_internal.without_stop_words(p_text text) returns text
  language sql stable security invoker set search_path = ''
as $$
  with words as materialized (
    select w.word, w.n from regexp_split_to_table(p_text, '\s+') with ordinality w (word, n)
  ),
  stops as materialized (
    select d.name, x.n
    from (select * from words limit 200) x
    cross join unnest(array['english', 'danish', 'dutch', 'finnish', 'french', 'german', 'hungarian', 'italian',
      'norwegian', 'portuguese', 'russian', 'spanish', 'swedish', 'turkish']) d (name)
    where ts_lexize(('pg_catalog.' || d.name || '_stem')::regdictionary, lower(btrim(x.word, '.,;:!?¿¡()"'))) = '{}'
  ),
  language as (
    select s.name from stops s group by s.name order by count(*) desc, s.name <> 'english', s.name limit 1
  )
  select coalesce(string_agg(w.word, ' ' order by w.n), '')
  from words w
  where not exists (select from stops s join language l on l.name = s.name where s.n = w.n and l.name <> 'english')
$$;
comment on function rollcall_internal.without_stop_words is
  'A text without the stop words of its language; English ones are left to the parser.';

-- Definer: see match_words; called by my_gram_matches only.
create function rollcall_internal.my_rows_with_gram(p_kind text, p_user uuid, p_gram text, p_limit int) returns uuid[]
  language plpgsql stable security definer set search_path = '' set enable_seqscan = off set enable_indexscan = off
as $$
declare
  v_query constant tsquery := quote_literal(p_gram)::tsquery;
begin
  if p_kind = 'unit' then
    return array(select u.id from rollcall.atomic_chat_units u
      where u.user_id = p_user and u.state = 'active' and u.grams @@ v_query limit p_limit);
  end if;
  return array(select m.id from rollcall.memories m
    where m.user_id = p_user and m.is_active and m.grams @@ v_query limit p_limit);
end
$$;
comment on function rollcall_internal.my_rows_with_gram is 'Ids of at most p_limit rows that have a part of a word.';

-- Rare words weigh more; of equally good rows the newest are kept. The score is the share of the weight of the text's
-- five heaviest words. Of a word in more than 1,000 rows not all rows are read: those that also have another word of
-- the text are found through the index, the others are looked for in the user's newest 5,000 rows.
-- Definer: under a policy PostgreSQL cannot use an index for @@; returns ids of rows of auth.uid() only.
-- Over 60 lines: frequent words need steps of their own.
create function rollcall_internal.my_word_matches(p_kind text, p_text text, p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = '' rows 30
as $$
declare
  v_me constant uuid := auth.uid();
  v_frequent tsquery[];
  v_ids uuid[];
  v_weights float8[];
  v_frequent_weight constant float8 := ln(1 + 1000::float8 / 1001);
  v_whole float8;
begin
  with words as (
    select plainto_tsquery('pg_catalog.simple', l.lexeme) as query
    from unnest(to_tsvector('pg_catalog.english', rollcall_internal.without_stop_words(left(p_text, 8000)))) l
    order by length(l.lexeme) desc, l.lexeme limit 16
  ),
  found as materialized (
    select w.query, rollcall_internal.my_matches(p_kind, v_me, w.query, 1001) as ids from words w
  ),
  weighed as (
    select ln(1 + 1000::float8 / cardinality(f.ids)) as weight, f.ids from found f
    where cardinality(f.ids) between 1 and 1000
  ),
  rows as (
    select i.id, sum(w.weight) as weight from weighed w cross join lateral unnest(w.ids) i (id) group by i.id
  )
  select
    (select array_agg(f.query) from found f where cardinality(f.ids) > 1000),
    (select coalesce(sum(h.weight), 0) from (
      select ln(1 + 1000::float8 / cardinality(f.ids)) as weight from found f where f.ids <> '{}'
      order by 1 desc limit 5) h),
    (select array_agg(r.id) from rows r),
    (select array_agg(r.weight) from rows r)
    into v_frequent, v_whole, v_ids, v_weights;
  v_whole := greatest(v_whole, ln(1 + 1000::float8 / 5));

  return query
    with rare as (
      select r.id, r.weight from unnest(v_ids, v_weights) r (id, weight) order by r.weight desc limit 2000
    ),
    pairs as (
      select o.query && t.query as query
      from (select * from unnest(v_frequent) with ordinality f (query, n) limit 4) o
      join unnest(v_frequent) with ordinality t (query, n) on t.n > o.n and t.n <= 4
      union
      select string_agg(f::text, ' & ')::tsquery from unnest(v_frequent) f having count(*) > 2
    ),
    -- Frequent words together may be rare.
    together as (
      select i.id, max(ln(1 + 1000::float8 / cardinality(f.ids))) as weight
      from pairs p
      cross join lateral (select rollcall_internal.my_matches(p_kind, v_me, p.query, 300) as ids offset 0) f
      cross join lateral unnest(f.ids) i (id)
      group by i.id
    ),
    candidates as (
      select r.id from rare r
      union
      select t.id from together t
      union
      select i.id from unnest(rollcall_internal.my_newest_matches(p_kind, v_me,
        (select string_agg(f::text, ' | ')::tsquery from unnest(v_frequent) f), 5000, 300)) i (id)
    ),
    scored as (
      select c.id, x.created_at, coalesce(r.weight, 0) + greatest(t.weight, v_frequent_weight
        * (select count(*) from unnest(v_frequent) f where x.search @@ f)) as weight
      from candidates c
      left join rare r on r.id = c.id
      left join together t on t.id = c.id
      cross join lateral (
        select u.created_at, u.search from rollcall.atomic_chat_units u where p_kind = 'unit' and u.id = c.id
        union all
        select m.created_at, m.search from rollcall.memories m where p_kind = 'memory' and m.id = c.id
      ) x
    )
    select s.id, least(1, s.weight / v_whole)::real
    from scored s
    order by s.weight desc, s.created_at desc, s.id
    limit p_limit;
end
$$;
comment on function rollcall_internal.my_word_matches is
  'The callers units or memories that have words of a text, best first, with a score from 0 to 1.';

-- Rare parts weigh more. The score is the share of the weight of those parts of the text that occur at all. At most 48
-- parts, those of the longest words. A part in more than 1,000 rows finds none: its rows could not all be compared.
-- Definer: see match_words; called by it only.
create function rollcall_internal.my_gram_matches(p_kind text, p_text text, p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = '' rows 30
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    with grams as (
      select g.lexeme
      from regexp_split_to_table(left(p_text, 2000), '\s+') w (word)
      cross join lateral unnest(rollcall_internal.search_grams(w.word)) g
      where w.word <> ''
      group by g.lexeme
      order by max(length(w.word)) desc, g.lexeme limit 48
    ),
    found as materialized (
      select rollcall_internal.my_rows_with_gram(p_kind, v_me, g.lexeme, 1001) as ids from grams g
    ),
    weighed as materialized (
      select ln(1 + 1000::float8 / cardinality(f.ids)) as weight, f.ids from found f where f.ids <> '{}'
    ),
    scored as (
      select i.id, sum(w.weight) / (select sum(a.weight) from weighed a) as score
      from weighed w cross join lateral unnest(w.ids) i (id) where cardinality(w.ids) <= 1000 group by i.id
    )
    select s.id, s.score::real from scored s order by s.score desc, s.id limit p_limit;
end
$$;
comment on function rollcall_internal.my_gram_matches is
  'The callers units or memories that have parts of the words of a text, best first, with a score from 0 to 1.';

-- By words and by parts of words: words alone miss inflections, compounds, and scripts without spaces. Parts are not
-- searched for users with more than 20,000 rows, where this takes too long.
-- Definer: under a policy PostgreSQL cannot use an index for @@; returns ids of rows of auth.uid() only.
create function rollcall.match_words(p_kind text, p_text text, p_limit int) returns table (id uuid, score real)
  language plpgsql stable security definer set search_path = '' rows 30
as $$
declare
  v_me constant uuid := auth.uid();
  v_many constant boolean := case p_kind
    when 'unit' then exists (select from rollcall.atomic_chat_units u where u.user_id = v_me offset 20000 limit 1)
    else exists (select from rollcall.memories m where m.user_id = v_me offset 20000 limit 1) end;
begin
  if v_many then
    return query select w.id, w.score from rollcall_internal.my_word_matches(p_kind, p_text, p_limit) w;
    return;
  end if;
  return query
    select coalesce(w.id, g.id), greatest(w.score, g.score)
    from rollcall_internal.my_word_matches(p_kind, p_text, 200) with ordinality w (id, score, n)
    full join rollcall_internal.my_gram_matches(p_kind, p_text, 200) g on g.id = w.id
    order by coalesce(w.score, 0) + coalesce(g.score, 0) desc, w.n, 1
    limit p_limit;
end
$$;
comment on function rollcall.match_words is
  'The callers units or memories that a text is about by its words, best first, with a score from 0 to 1.';
grant execute on function rollcall.match_words to authenticated, service_role;

-- Embeddings below the threshold are ignored.
-- Invoker: ids of the caller's own rows, from match_embeddings.
create function rollcall.merge_embeddings(p_kind text, p_ids uuid[], p_scores real[], p_vector text, p_threshold real,
  p_limit int)
  returns table (id uuid, score real)
  language plpgsql stable security invoker set search_path = '' rows 40
as $$
begin
  return query
    with words as (
      select w.id, w.score, w.n from unnest(p_ids, p_scores) with ordinality w (id, score, n)
    ),
    meaning as (
      select m.id, m.score, row_number() over (order by m.score desc, m.id) as n
      from rollcall.match_embeddings(p_kind, p_vector, p_limit) m where m.score >= p_threshold
    )
    select coalesce(w.id, m.id), greatest(w.score, m.score)
    from words w full join meaning m on m.id = w.id
    -- Reciprocal rank fusion; 60 limits the weight of the first ranks.
    order by coalesce(1.0 / (60 + w.n), 0) + coalesce(1.0 / (60 + m.n), 0) desc, 1
    limit p_limit;
end
$$;
comment on function rollcall.merge_embeddings is
  'Merges matches by words and by embedding by rank; the score is the better of the two.';
grant execute on function rollcall.merge_embeddings to authenticated, service_role;

-- Everything selected here must be covered by affected_bundles.
-- Invoker: row-level security decides. Without a search_path of its own, because it evaluates users' policies.
-- Over 60 lines: one statement per bundle type.
create function rollcall.bundle_sources(
  p_type rollcall.bundle_type, p_topic uuid default null, p_entity uuid default null, p_conversation uuid default null
) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_sources jsonb;
begin
  case p_type
    when 'identity_core' then
      select jsonb_build_object('memories', coalesce(jsonb_agg(
          jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category) order by m.is_pinned desc,
            m.importance desc, m.created_at, m.id), '[]'))
        into v_sources
      from (
        select * from rollcall.memories m
        where m.user_id = v_me and m.is_active and (m.is_pinned or m.category in ('biography', 'identity', 'role')
          and m.importance >= 0.8::real)
        order by m.is_pinned desc, m.importance desc, m.created_at, m.id limit 15
      ) m;

    when 'global_prefs' then
      select jsonb_build_object(
        'instructions', coalesce((
          select jsonb_agg(jsonb_build_object('id', i.id, 'content', i.content) order by i.priority desc, i.created_at,
            i.id)
          from (
            select * from rollcall.custom_instructions i
            where i.user_id = v_me and i.is_active and i.scope = 'global'
            order by i.priority desc, i.created_at, i.id limit 10
          ) i), '[]'),
        'memories', coalesce((
          select jsonb_agg(jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category)
            order by m.importance desc, m.created_at, m.id)
          from (
            select * from rollcall.memories m
            where m.user_id = v_me and m.is_active and m.category = 'preference' and m.importance >= 0.6::real
            order by m.importance desc, m.created_at, m.id limit 10
          ) m), '[]'))
        into v_sources;

    when 'topic' then
      select jsonb_build_object(
        'topic', jsonb_build_object('label', t.label, 'aliases', t.aliases, 'domain', t.domain,
          'proficiency', t.proficiency, 'units', t.unit_count, 'conversations', t.conversation_count,
          'messages', t.message_count, 'last_engaged', t.last_engaged_at::date, 'streak_days', t.streak_days,
          'importance', t.importance),
        'instructions', coalesce((
          select jsonb_agg(jsonb_build_object('id', i.id, 'content', i.content) order by i.priority desc, i.created_at,
            i.id)
          from rollcall.custom_instructions i
          where i.topic_id = t.id and i.user_id = v_me and i.is_active), '[]'),
        'memories', coalesce((
          select jsonb_agg(jsonb_build_object('id', m.id, 'content', m.content, 'category', m.category)
            order by m.importance desc, m.created_at, m.id)
          from (
            select * from rollcall.memories m
            where m.user_id = v_me and m.is_active and m.search @@ t.query
            order by m.importance desc, m.created_at, m.id limit 5
          ) m), '[]'),
        'conversations', coalesce((
          select jsonb_agg(jsonb_build_object('id', c.id, 'title', c.title) order by c.relevance desc, c.id)
          from (
            select c.id, c.title, l.relevance
            from rollcall.topic_conversations l join rollcall.conversations c on c.id = l.conversation_id
            where l.topic_id = t.id and c.title is not null
            order by l.relevance desc, c.id limit 5
          ) c), '[]'),
        'units', coalesce((
          select jsonb_agg(jsonb_build_object('id', u.id, 'content', u.content) order by u.worth desc,
            u.created_at desc, u.id)
          from (
            select u.id, u.content, u.created_at, l.relevance * u.quality as worth
            from rollcall.topic_units l join rollcall.atomic_chat_units u on u.id = l.unit_id
            where l.topic_id = t.id and u.state = 'active'
            order by worth desc, u.created_at desc, u.id limit 10
          ) u), '[]'))
        into v_sources
      from rollcall.topic_profiles t where t.id = p_topic and t.user_id = v_me;

    when 'entity' then
      select jsonb_build_object(
        'entity', jsonb_build_object('name', e.name, 'type', e.entity_type, 'aliases', e.aliases,
          'relationship', e.relationship, 'sentiment', e.sentiment, 'facts', e.facts, 'mentions', e.mention_count,
          'conversations', e.conversation_count, 'last_mentioned', e.last_mentioned_at::date, 'importance',
            e.importance),
        'units', coalesce((
          select jsonb_agg(jsonb_build_object('id', u.id, 'content', u.content) order by u.quality desc,
            u.created_at desc, u.id)
          from (
            select u.id, u.content, u.quality, u.created_at
            from rollcall.entity_units l join rollcall.atomic_chat_units u on u.id = l.unit_id
            where l.entity_id = e.id and u.state = 'active'
            order by u.quality desc, u.created_at desc, u.id limit 8
          ) u), '[]'))
        into v_sources
      from rollcall.entity_profiles e where e.id = p_entity and e.user_id = v_me;

    when 'conversation' then
      select jsonb_build_object(
        'conversation', jsonb_build_object('id', c.id, 'title', c.title, 'started', c.created_at::date),
        'count', (select count(*) from rollcall.messages m where m.conversation_id = c.id
          and m.state in ('complete', 'partial')),
        'topics', coalesce((
          select jsonb_agg(jsonb_build_object('id', t.id, 'label', t.label) order by t.relevance desc, t.id)
          from (
            select t.id, t.label, l.relevance
            from rollcall.topic_conversations l join rollcall.topic_profiles t on t.id = l.topic_id
            where l.conversation_id = c.id and l.user_id = v_me
            order by l.relevance desc, t.id limit 5
          ) t), '[]'),
        -- A long conversation is represented by its beginning and its end.
        'messages', coalesce((
          select jsonb_agg(jsonb_build_object('role', m.role, 'content', left(m.content, 4000), 'mine',
            m.user_id = v_me)
            order by m.message_index)
          from (
            (select * from rollcall.messages m
              where m.conversation_id = c.id and m.state in ('complete', 'partial')
              order by m.message_index limit 4)
            union
            (select * from rollcall.messages m
              where m.conversation_id = c.id and m.state in ('complete', 'partial')
              order by m.message_index desc limit 150)
          ) m), '[]'))
        into v_sources
      from rollcall.conversations c where c.id = p_conversation;
    else
      v_sources := null;
  end case;
  return v_sources;
end
$$;
comment on function rollcall.bundle_sources is
  'The sources that a bundle is compiled from, as the caller may see them; null where there are none.';
grant execute on function rollcall.bundle_sources to authenticated, service_role;

-- p_wanted: [{"type", "ref" of topic, entity or conversation}]; p_force treats all as stale. In the order of the list.
-- One statement has one snapshot, so a bundle called fresh is as new as the rest of the result.
-- Invoker: see bundle_sources.
-- Over 60 lines: one statement.
create function rollcall.wanted_bundles(p_wanted jsonb, p_force boolean default false) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return (
    with wanted as materialized (
      select (a.w ->> 'type')::rollcall.bundle_type as type, (a.w ->> 'ref')::uuid as ref, a.n
      from jsonb_array_elements(p_wanted) with ordinality a (w, n)
    ),
    found as materialized (
      select w.type, w.ref, w.n, b.id, b.content, b.token_count, b.version, b.unit_ids, b.memory_ids, b.compiled_at,
        b.dirty, b.expires_at
      from wanted w
      left join lateral (
        select * from rollcall.context_bundles b
        where w.type = 'topic' and b.topic_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from rollcall.context_bundles b
        where w.type = 'entity' and b.entity_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from rollcall.context_bundles b
        where w.type = 'conversation' and b.conversation_id = w.ref and b.user_id = v_me and b.persona_id is null
        union all
        select * from rollcall.context_bundles b
        where w.type not in ('topic', 'entity', 'conversation') and b.user_id = v_me and b.bundle_type = w.type
          and b.persona_id is null and b.topic_id is null and b.entity_id is null and b.conversation_id is null
        offset 0
      ) b on true
    ),
    fresh as materialized (
      select f.id from rollcall.my_fresh_bundles(array(select o.id from found o where not o.dirty)) f (id)
      where not p_force
    ),
    judged as (
      select f.*, case
        when f.id is null then 'missing'
        when p_force then 'forced'
        when f.dirty then 'dirty'
        when f.expires_at <= clock_timestamp() then 'expired'
        when not exists (select from fresh r where r.id = f.id) then 'dirty'
        -- Under the policies of this moment, which may depend on more than membership.
        when f.type = 'conversation' and (select c.id from rollcall.conversations c where c.id = f.ref limit 1) is null
          then 'dirty'
        else 'fresh' end as reason
      from found f offset 0
    )
    select coalesce(jsonb_agg(
      jsonb_build_object('type', j.type, 'ref', j.ref, 'reason', j.reason, 'id', j.id)
      || case when j.reason = 'fresh' then jsonb_build_object('content', j.content, 'tokens', j.token_count,
          'version', j.version, 'unit_ids', j.unit_ids, 'memory_ids', j.memory_ids, 'compiled_at', j.compiled_at)
        else jsonb_build_object('sources', case j.type
          when 'topic' then rollcall.bundle_sources('topic', p_topic => j.ref)
          when 'entity' then rollcall.bundle_sources('entity', p_entity => j.ref)
          when 'conversation' then rollcall.bundle_sources('conversation', p_conversation => j.ref)
          else rollcall.bundle_sources(j.type) end)
        end
      order by j.n), '[]')
    from judged j
  );
end
$$;
comment on function rollcall.wanted_bundles is
  'The callers bundles for some subjects: the content of fresh ones, the sources of the others.';
grant execute on function rollcall.wanted_bundles to authenticated, service_role;

-- Topics and entities of the conversation, those that the message names (also misspelt), and those of matching units.
-- Each matched unit is looked up by key (`offset 0`): the plan is generic and does not know how few there are.
-- Invoker: see bundle_sources.
-- Over 60 lines: one statement.
create function rollcall.detect(p_conversation uuid, p_message text, p_units uuid[], p_scores real[])
  returns table (kind text, id uuid, name text, score real, reason text)
  language plpgsql stable security invoker rows 10
as $$
declare
  v_me constant uuid := auth.uid();
  v_lexemes constant tsvector := to_tsvector('pg_catalog.english', left(p_message, 20000));
  v_misspellings text[];
  v_prefixes text[];
begin
  -- Any longer word may be a misspelt name with the same first letters. Names are compared with these first, one per
  -- row.
  select array_agg(w.word), array_agg(left(w.word, 2)) into v_misspellings, v_prefixes from (
    select distinct lower(m[1]) as word from regexp_matches(left(p_message, 2000), '([[:alpha:]][[:alnum:]-]{4,30})',
      'g') m
    limit 40
  ) w;
  return query
    with matched as (
      select * from unnest(p_units, p_scores) u (unit_id, score)
    ),
    whole as (select nullif(sum(m.score), 0) as score from matched m),
    hits as (
      select 'topic' as kind, l.topic_id as id, 0.5::real + l.relevance / 2 as score, 'conversation' as reason
      from rollcall.topic_conversations l where l.conversation_id = p_conversation and l.user_id = v_me
      union all
      select 'topic', t.id, 1, 'named' from rollcall.topic_profiles t where t.user_id = v_me and v_lexemes @@ t.query
      union all
      select 'topic', l.topic_id, (sum(m.score) / max(w.score))::real, 'meaning'
      from matched m cross join whole w
      cross join lateral (select l.topic_id from rollcall.topic_units l where l.unit_id = m.unit_id
        and l.user_id = v_me offset 0) l
      group by l.topic_id having sum(m.score) / max(w.score) >= 0.35
      union all
      select 'entity', l.entity_id, least(0.9, 0.4 + 0.1 * l.mentions)::real, 'conversation'
      from rollcall.entity_conversations l where l.conversation_id = p_conversation and l.user_id = v_me
      union all
      select 'entity', e.id, 1, 'named' from rollcall.entity_profiles e where e.user_id = v_me and v_lexemes @@ e.query
      union all
      select 'entity', l.entity_id, (sum(m.score) / max(w.score))::real, 'meaning'
      from matched m cross join whole w
      cross join lateral (select l.entity_id from rollcall.entity_units l where l.unit_id = m.unit_id
        and l.user_id = v_me offset 0) l
      group by l.entity_id having sum(m.score) / max(w.score) >= 0.40
      union all
      select s.kind, s.id, 0.8, 'misspelt'
      from (
        select 'topic' as kind, t.id, lower(t.label) as name from rollcall.topic_profiles t
        where t.user_id = v_me and left(lower(t.label), 2) = any (v_prefixes)
        union all
        select 'topic', t.id, lower(n) from rollcall.topic_profiles t, unnest(t.aliases) n
        where t.user_id = v_me and t.aliases <> '{}' and left(lower(n), 2) = any (v_prefixes)
        union all
        select 'entity', e.id, lower(e.name) from rollcall.entity_profiles e
        where e.user_id = v_me and left(lower(e.name), 2) = any (v_prefixes)
        union all
        select 'entity', e.id, lower(n) from rollcall.entity_profiles e, unnest(e.aliases) n
        where e.user_id = v_me and e.aliases <> '{}' and left(lower(n), 2) = any (v_prefixes)
      ) s
      join unnest(v_misspellings) slip on left(slip, 2) = left(s.name, 2) and slip <> s.name
        and length(slip) between length(s.name) - 1 and length(s.name) + 1
      where length(s.name) >= 5 and rollcall.similarity(slip, s.name) >= 0.5
    ),
    best as (
      select distinct on (h.kind, h.id) h.kind, h.id, h.score::real, h.reason
      from hits h order by h.kind, h.id, h.score desc
    )
    (select b.kind, b.id, t.label, b.score, b.reason
      from best b join rollcall.topic_profiles t on b.kind = 'topic' and t.id = b.id
      order by b.score desc, t.importance desc, t.id limit 4)
    union all
    (select b.kind, b.id, e.name, b.score, b.reason
      from best b join rollcall.entity_profiles e on b.kind = 'entity' and e.id = b.id
      order by b.score desc, e.importance desc, e.id limit 4);
end
$$;
comment on function rollcall.detect is
  'The callers topics and entities that a message is about, each with a score from 0 to 1 and a reason.';
grant execute on function rollcall.detect to authenticated, service_role;

-- p_vector: the embedding of the message, where there are embeddings to compare it with. Returns json, because it is
-- sent without being read.
-- Invoker: see bundle_sources.
-- Over 60 lines: one object of eight parts.
create function rollcall.assemble(p_conversation uuid, p_message text, p_history int,
  p_vector text default null) returns json
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_conversation jsonb;
  v_units uuid[];
  v_scores real[];
  v_memories uuid[];
  v_memory_scores real[];
  v_detected jsonb;
  v_wanted jsonb;
begin
  select jsonb_build_object('id', c.id, 'title', c.title, 'messages', s.messages, 'tokens',
    s.tokens) into v_conversation
  from rollcall.conversations c
  cross join lateral (
    select count(*) as messages, coalesce(sum(coalesce(m.token_count, length(m.content) / 4 + 1)), 0) as tokens
    from rollcall.messages m where m.conversation_id = c.id and m.state in ('complete', 'partial')
  ) s
  where c.id = p_conversation;
  if v_conversation is null then
    return null;
  end if;

  select array_agg(m.id order by m.score desc, m.id), array_agg(m.score order by m.score desc, m.id)
    into v_units, v_scores from rollcall.match_words('unit', p_message, 40) m;
  select array_agg(m.id order by m.score desc, m.id), array_agg(m.score order by m.score desc, m.id)
    into v_memories, v_memory_scores from rollcall.match_words('memory', p_message, 30) m;
  if p_vector is not null then
    select array_agg(m.id order by m.n), array_agg(m.score order by m.n) into v_units, v_scores
    from rollcall.merge_embeddings('unit', v_units, v_scores, p_vector, 0.35, 40) with ordinality m (id, score, n);
    select array_agg(m.id order by m.n), array_agg(m.score order by m.n) into v_memories, v_memory_scores
    from rollcall.merge_embeddings('memory', v_memories, v_memory_scores, p_vector, 0.40, 30) with ordinality m (id,
      score, n);
  end if;
  select coalesce(jsonb_agg(to_jsonb(d)), '[]') into v_detected
    from rollcall.detect(p_conversation, p_message, v_units[1:20], v_scores[1:20]) d;
  select jsonb_build_array(
      jsonb_build_object('type', 'identity_core'), jsonb_build_object('type', 'global_prefs'),
      jsonb_build_object('type', 'conversation', 'ref', p_conversation))
    || coalesce(jsonb_agg(jsonb_build_object('type', d ->> 'kind', 'ref', d ->> 'id')), '[]')
    into v_wanted from jsonb_array_elements(v_detected) d;

  return json_build_object(
    'conversation', v_conversation,
    'detected', v_detected,
    'bundles', rollcall.wanted_bundles(v_wanted),
    'units', coalesce((
      select json_agg(json_build_object('id', u.id, 'content', u.content, 'score', m.score,
          'said_on', case when u.is_learned then u.created_at::date end) order by m.n)
      from unnest(v_units, v_scores) with ordinality m (id, score, n)
      cross join lateral (select * from rollcall.atomic_chat_units u where u.id = m.id
        and u.state = 'active' offset 0) u), '[]'),
    'memories', coalesce((
      select json_agg(json_build_object('id', me.id, 'content', me.content, 'score', m.score) order by m.n)
      from unnest(v_memories, v_memory_scores) with ordinality m (id, score, n)
      cross join lateral (select * from rollcall.memories me where me.id = m.id and me.is_active offset 0) me), '[]'),
    'history', coalesce((
      select json_agg(json_build_object('id', h.id, 'role', h.role, 'content', h.content, 'tokens', h.token_count,
          'mine', h.user_id = v_me) order by h.message_index)
      from (
        select * from rollcall.messages m
        where m.conversation_id = p_conversation and m.state in ('complete', 'partial')
        order by m.message_index desc limit p_history
      ) h), '[]'),
    'paths', coalesce((
      select d.navigation_history from rollcall.presence_devices d
      where d.user_id = v_me order by d.context_updated_at desc nulls last limit 1), '[]'),
    'seeing', pg_current_snapshot()::text,
    'access', rollcall.confirmed_access_version(rollcall.context_access_version()),
    'read_at', clock_timestamp());
end
$$;
comment on function rollcall.assemble is
  'Everything that the prompt for one message needs, in one snapshot; null where the caller sees no such conversation.';
grant execute on function rollcall.assemble to authenticated, service_role;

-- Instructions, the most important memories and the last messages. Reads no table of the other engine.
-- Invoker: see bundle_sources.
create function rollcall.assemble_simple(p_conversation uuid, p_history int) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
begin
  if not exists (select from rollcall.conversations c where c.id = p_conversation) then
    return null;
  end if;
  return jsonb_build_object(
    'instructions', coalesce((
      select jsonb_agg(i.content order by i.priority desc, i.created_at, i.id)
      from (
        select * from rollcall.custom_instructions i
        where i.user_id = v_me and i.is_active and i.scope = 'global'
        order by i.priority desc, i.created_at, i.id limit 10
      ) i), '[]'),
    'memories', coalesce((
      select jsonb_agg(m.content order by m.importance desc, m.created_at, m.id)
      from (
        select * from rollcall.memories m
        where m.user_id = v_me and m.is_active
        order by m.importance desc, m.created_at, m.id limit 10
      ) m), '[]'),
    'history', coalesce((
      select jsonb_agg(jsonb_build_object('id', h.id, 'role', h.role, 'content', h.content, 'tokens', h.token_count,
          'mine', h.user_id = v_me) order by h.message_index)
      from (
        select * from rollcall.messages m
        where m.conversation_id = p_conversation and m.state in ('complete', 'partial')
        order by m.message_index desc limit p_history
      ) h), '[]'));
end
$$;
comment on function rollcall.assemble_simple is
  'What the simple context engine needs; null where the caller sees no such conversation.';
grant execute on function rollcall.assemble_simple to authenticated, service_role;

-- p_device null: the device whose signals are newest.
-- Invoker: see bundle_sources.
create function rollcall.context_signals(p_device text, p_hour int) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_device rollcall.presence_devices;
begin
  select * into v_device from rollcall.presence_devices d
  where d.user_id = v_me and (p_device is null or d.device_id = p_device)
  order by d.context_updated_at desc nulls last, d.last_heartbeat_at desc
  limit 1;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'device_id', v_device.device_id,
    'active_conversation_id', (select c.id from rollcall.conversations c where c.id = v_device.active_conversation_id),
    'visible_conversation_ids', coalesce((
      select jsonb_agg(v.id order by v.n) from unnest(v_device.visible_conversation_ids) with ordinality v (id, n)
      where v.id in (select c.id from rollcall.conversations c where c.id = any (v_device.visible_conversation_ids))),
        '[]'),
    'navigation_history', v_device.navigation_history,
    'local_time', v_device.local_time,
    'active_topics', coalesce((
      select jsonb_agg(x.topic_id order by x.relevance desc, x.topic_id) from (
        select l.topic_id, l.relevance from rollcall.topic_conversations l
        where l.conversation_id = v_device.active_conversation_id and l.user_id = v_me
        order by l.relevance desc, l.topic_id limit 5) x), '[]'),
    'hours', coalesce((
      select jsonb_agg(jsonb_build_object('id', x.id, 'hour', x.peak_hour, 'importance', x.importance)
        order by x.importance desc, x.id)
      from (
        select t.id, t.peak_hour, t.importance from rollcall.topic_profiles t
        where t.user_id = v_me and t.importance >= 0.4::real
          and t.peak_hour = coalesce(p_hour, extract(hour from now())::int)
        order by t.importance desc, t.id limit 3
      ) x), '[]'),
    'hot', coalesce((
      select jsonb_agg(jsonb_build_object('id', x.id, 'importance', x.importance) order by x.streak_days desc,
        x.importance desc, x.id)
      from (
        select t.id, t.streak_days, t.importance from rollcall.topic_profiles t
        where t.user_id = v_me and t.last_engaged_at > now() - interval '48 hours'
        order by t.streak_days desc, t.importance desc, t.id limit 5
      ) x), '[]'),
    'entities', coalesce((
      select jsonb_agg(jsonb_build_object('id', x.id, 'importance', x.importance) order by x.importance desc, x.id)
      from (
        select e.id, e.importance from rollcall.entity_profiles e
        where e.user_id = v_me and e.last_mentioned_at > now() - interval '72 hours'
        order by e.last_mentioned_at desc, e.id limit 5
      ) x), '[]'));
end
$$;
comment on function rollcall.context_signals is
  'The context signals of a device and the recent subjects of the caller; null without a device.';
grant execute on function rollcall.context_signals to authenticated, service_role;

-- Definer: freshness needs source changes; answers for auth.uid() unless the role is service_role.
create function rollcall.context_counts() returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_all constant boolean := coalesce(auth.role() = 'service_role', false);
begin
  return (
    select jsonb_build_object(
      'topicProfiles', (select count(*) from rollcall.topic_profiles t where v_all or t.user_id = v_me),
      'entityProfiles', (select count(*) from rollcall.entity_profiles e where v_all or e.user_id = v_me),
      'contextBundles', count(*),
      'dirtyBundles', count(*) filter (where b.dirty or rollcall_internal.has_newer_source_change(b, true)),
      'invalidationQueue', (select count(*) from rollcall.system_actions a
        where (v_all or a.user_id = v_me) and a.status in ('pending', 'processing')),
      'deadLetters', (select count(*) from rollcall.system_actions a where (v_all or a.user_id = v_me)
        and a.status = 'failed'),
      'freshTopicBundles', count(*) filter (where b.bundle_type = 'topic' and rollcall_internal.is_fresh(b)),
      'freshEntityBundles', count(*) filter (where b.bundle_type = 'entity' and rollcall_internal.is_fresh(b)),
      'freshConversationBundles', count(*) filter (where b.bundle_type = 'conversation'
        and rollcall_internal.is_fresh(b)),
      'totalFreshBundles', count(*) filter (where rollcall_internal.is_fresh(b)))
    from rollcall.context_bundles b where v_all or b.user_id = v_me
  );
end
$$;
comment on function rollcall.context_counts is
  'Counts of bundles and their states: of the caller, or of all users for service_role.';
grant execute on function rollcall.context_counts to authenticated, service_role;

-- The bundle of the given subject, or all of these types without one.
-- Definer: only the server writes flags; acts for auth.uid() only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.invalidate_mine(p_event text, p_types rollcall.bundle_type[], p_topic uuid, p_entity uuid,
    p_conversation uuid, p_memory uuid, p_instruction uuid) returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_me constant uuid := auth.uid();
  v_bundles uuid[];
  v_narrow constant boolean := num_nonnulls(p_topic, p_entity, p_conversation, p_memory, p_instruction) > 0;
begin
  perform rollcall_internal.check_search_path();
  select coalesce(array_agg(b.id), '{}') into v_bundles
  from rollcall.context_bundles b
  where b.user_id = v_me and b.bundle_type = any (p_types)
    and (not v_narrow
      -- There is one of each, so an id does not narrow them.
      or (b.bundle_type in ('identity_core', 'global_prefs'))
      or b.topic_id = p_topic or b.entity_id = p_entity or b.conversation_id = p_conversation
      or p_memory = any (b.memory_ids) or p_instruction = any (b.instruction_ids));
  return rollcall_internal.flag_bundles(v_bundles, p_event);
end
$$;
comment on function rollcall.invalidate_mine is 'Marks the callers bundles as dirty; returns how many.';
grant execute on function rollcall.invalidate_mine to authenticated, service_role;

-- Turns of a chat -----------------------------------------------------------------------------------------------------

-- The user's message is written as the user, under policies; only the server writes messages of models. Each is saved
-- once, however often the request is sent.

-- Definer: only the server writes messages of models; only for a question of auth.uid().
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.open_answer(p_question uuid) returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_question rollcall.messages;
  v_answer rollcall.messages;
begin
  perform rollcall_internal.check_search_path();
  -- One request at a time.
  select * into v_question from rollcall.messages m
  where m.id = p_question and m.user_id = auth.uid() and m.role = 'user' for no key update;
  if not found then
    return jsonb_build_object('state', 'busy');
  end if;
  select * into v_answer from rollcall.messages m where m.reply_to = p_question and m.role = 'assistant'
  order by m.message_index desc limit 1;
  if v_answer.state in ('complete', 'partial') then
    return jsonb_build_object('state', 'replay', 'answer_id', v_answer.id, 'content', v_answer.content,
      'metadata', v_answer.metadata, 'partial', v_answer.state = 'partial');
  elsif v_answer.state = 'pending' and v_answer.updated_at > clock_timestamp() - interval '2 minutes' then
    return jsonb_build_object('state', 'busy');
  elsif v_answer.id is not null then
    -- Its server stopped, or it failed.
    update rollcall.messages m set state = 'pending' where m.id = v_answer.id;
  else
    insert into rollcall.messages (conversation_id, user_id, role, content, state, idempotency_key, reply_to)
    values (v_question.conversation_id, v_question.user_id, 'assistant', '', 'pending', v_question.idempotency_key,
      p_question)
    returning * into v_answer;
  end if;
  return jsonb_build_object('state', 'new', 'answer_id', v_answer.id);
end
$$;
comment on function rollcall.open_answer is
  'Opens the answer to one of the callers questions, or returns the existing one.';
grant execute on function rollcall.open_answer to authenticated, service_role;

-- Returns "state": new, replay (with the existing answer), busy (being answered) or mismatch (the key with another
-- question).
-- Invoker: row-level security decides who may write here. Without a search_path of its own, because it evaluates
-- users' policies.
create function rollcall.begin_turn(p_conversation uuid, p_content text, p_tokens int, p_key text) returns jsonb
  language plpgsql volatile security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_question rollcall.messages;
begin
  if p_key is not null then
    select * into v_question from rollcall.messages m
    where m.conversation_id = p_conversation and m.user_id = v_me and m.role = 'user' and m.idempotency_key = p_key;
    if found and v_question.content <> p_content then
      return jsonb_build_object('state', 'mismatch');
    end if;
  end if;
  if v_question.id is null then
    insert into rollcall.messages (conversation_id, user_id, role, content, parts, token_count, idempotency_key)
    values (p_conversation, v_me, 'user', p_content,
      jsonb_build_array(jsonb_build_object('type', 'text', 'text', p_content)), p_tokens, p_key)
    on conflict (conversation_id, user_id, role, idempotency_key) where idempotency_key is not null do nothing
    returning * into v_question;
    if v_question.id is null then
      -- Another request was first.
      return jsonb_build_object('state', 'busy');
    end if;
  end if;
  return rollcall.open_answer(v_question.id) || jsonb_build_object('question_id', v_question.id);
end
$$;
comment on function rollcall.begin_turn is 'Saves a question once and opens its answer.';
grant execute on function rollcall.begin_turn to authenticated, service_role;

-- A failed answer is deleted.
-- Definer: only the server writes messages of models.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.end_answer(p_answer uuid, p_state rollcall.message_state, p_content text,
  p_tokens int, p_metadata jsonb)
  returns boolean
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  if p_state = 'failed' then
    delete from rollcall.messages m where m.id = p_answer and m.state = 'pending';
    return found;
  end if;
  update rollcall.messages m set state = p_state, content = p_content, token_count = p_tokens, metadata = p_metadata,
    parts = jsonb_build_array(jsonb_build_object('type', 'text', 'text', p_content))
  where m.id = p_answer and m.state = 'pending';
  if not found then
    return false;
  end if;
  update rollcall.conversations c set last_message_at = greatest(c.last_message_at, clock_timestamp())
  where c.id = (select m.conversation_id from rollcall.messages m where m.id = p_answer);
  return true;
end
$$;
comment on function rollcall_internal.end_answer is
  'Ends an answer as complete, partial or failed; false where it was ended before.';

-- Definer: see end_answer.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.touch_answer(p_answer uuid) returns void
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  update rollcall.messages m set updated_at = now() where m.id = p_answer and m.state = 'pending';
end
$$;
comment on function rollcall_internal.touch_answer is 'Keeps an answer that is being written from being taken over.';

-- Definer: for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.purge_pending_answers() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_count bigint;
begin
  perform rollcall_internal.check_search_path();
  delete from rollcall.messages m
    where m.state = 'pending' and m.updated_at < clock_timestamp() - interval '15 minutes';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.purge_pending_answers is
  'Deletes answers that no server writes any more; returns how many.';

-- schemas/85_context_work.sql ----------------------------------------------------------------------------------------

-- Background work of the context engine. Servers claim work with SKIP LOCKED; work that a server claimed and did not
-- finish is claimed again.

-- p_bundles: [{"type", "ref", "content", "tokens", "memory_ids", "unit_ids", "instruction_ids", "conversation_ids",
-- "topic_ids", "priority"}]. A null content deletes the bundle. An older compilation never replaces a newer one. The
-- lock is shared among writers and excludes mark_stale_bundles. Sources read more than five minutes ago are refused,
-- because recorded changes are deleted after ten. Bundles and subjects that another transaction has locked are skipped:
-- a transaction of the application that flagged a bundle may go on to delete its subject, and must never be the one
-- that a deadlock ends.
-- Over 60 lines: one statement decides what to store, so that what is locked and what is written agree.
-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.store_bundles(p_user uuid, p_bundles jsonb, p_seeing pg_snapshot,
  p_read_at timestamptz, p_access bigint)
  returns table (id uuid, bundle_type rollcall.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  if p_read_at < clock_timestamp() - interval '5 minutes' then
    return;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('rollcall.context_bundles', 0));
  -- One at a time per user: one writer may delete what another stores.
  perform pg_advisory_xact_lock(hashtextextended('rollcall.bundles_of:' || p_user, 0));

  with emptied as (
    select b.id
    from rollcall.context_bundles b
    join jsonb_to_recordset(p_bundles) as x (type rollcall.bundle_type, ref uuid, content text)
      on x.content is null and b.bundle_type = x.type
      and x.ref is not distinct from coalesce(b.topic_id, b.entity_id, b.conversation_id)
    where b.user_id = p_user and b.compiled_at < p_read_at
    for update of b skip locked
  )
  delete from rollcall.context_bundles b using emptied e where b.id = e.id;

  return query
    with free as (
      select b.id from rollcall.context_bundles b where b.user_id = p_user for no key update skip locked
    ),
    given as (
      select * from jsonb_to_recordset(p_bundles) as x (type rollcall.bundle_type, ref uuid, content text, tokens int,
        memory_ids uuid[], unit_ids uuid[], instruction_ids uuid[], conversation_ids uuid[], topic_ids uuid[],
          priority real)
      where x.content is not null
        and not exists (
          select from rollcall.context_bundles b
          where b.user_id = p_user and b.bundle_type = x.type
            and x.ref is not distinct from coalesce(b.topic_id, b.entity_id, b.conversation_id)
            and b.id not in (select f.id from free f)
        )
        -- Deleted or being deleted: the bundle would refer to nothing.
        and case x.type
          when 'topic' then exists (select from rollcall.topic_profiles t where t.id = x.ref for key share skip locked)
          when 'entity' then exists (select from rollcall.entity_profiles e
            where e.id = x.ref for key share skip locked)
          when 'conversation' then exists (select from rollcall.conversations c
            where c.id = x.ref for key share skip locked)
          else x.ref is null end
    ),
    stored as (
      insert into rollcall.context_bundles as b (user_id, bundle_type, topic_id, entity_id, conversation_id, content,
        token_count, memory_ids, unit_ids, instruction_ids, conversation_ids, topic_ids, priority, compiled_at,
        compiled_seeing, access_version, expires_at, dirty)
      select p_user, g.type, case g.type when 'topic' then g.ref end, case g.type when 'entity' then g.ref end,
        case g.type when 'conversation' then g.ref end, g.content, g.tokens, coalesce(g.memory_ids, '{}'),
        coalesce(g.unit_ids, '{}'), coalesce(g.instruction_ids, '{}'), coalesce(g.conversation_ids, '{}'),
        coalesce(g.topic_ids, '{}'), coalesce(g.priority, 50), p_read_at, p_seeing, p_access,
        p_read_at + rollcall_internal.bundle_ttl(g.type), false
      from given g
      order by g.type, g.ref
      on conflict on constraint context_bundles_subject do update set
        content = excluded.content, token_count = excluded.token_count, memory_ids = excluded.memory_ids,
        unit_ids = excluded.unit_ids, instruction_ids = excluded.instruction_ids,
        conversation_ids = excluded.conversation_ids, topic_ids = excluded.topic_ids, priority = excluded.priority,
        compiled_at = excluded.compiled_at, compiled_seeing = excluded.compiled_seeing,
        access_version = excluded.access_version,
          expires_at = excluded.expires_at,
        version = b.version + 1, dirty = false
      where b.compiled_at < excluded.compiled_at
      returning b.*
    )
    select s.id, s.bundle_type, s.version, false from stored s;
end
$$;
comment on function rollcall_internal.store_bundles is
  'Stores compiled bundles of one snapshot; returns those that are newer than what was stored.';

-- In the transaction of store_bundles but in a later statement, whose snapshot includes the stored rows.
-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.finish_compilation(p_bundles uuid[]) returns uuid[]
  language plpgsql volatile security definer
as $$
declare
  v_stale uuid[];
begin
  perform rollcall_internal.check_search_path();
  select coalesce(array_agg(b.id), '{}') into v_stale
  from rollcall.context_bundles b where b.id = any (p_bundles) and not b.dirty
    and (rollcall_internal.has_newer_source_change(b, false)
      or b.access_version is distinct from rollcall.context_access_version());
  update rollcall.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = null
  where a.bundle_id = any (p_bundles) and a.bundle_id <> all (v_stale) and a.status in ('pending', 'processing');
  if v_stale <> '{}' then
    update rollcall.system_actions a set status = 'completed', finished_at = clock_timestamp()
    where a.bundle_id = any (v_stale) and a.status = 'processing';
    perform rollcall_internal.flag_bundles(v_stale, 'overtaken');
  end if;
  return v_stale;
end
$$;
comment on function rollcall_internal.finish_compilation is
  'Marks stored bundles that a newer change or access version contradicts as dirty; ends the queue entries of others.';

-- At most 80 bundles per notification.
-- Invoker: called by definer functions only.
create function rollcall_internal.notify_bundles_ready(p_user uuid, p_bundles text[]) returns void
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_nonce text;
begin
  for v_first in 1 .. cardinality(p_bundles) by 80 loop
    v_nonce := rollcall_internal.notification_nonce();
    perform rollcall_internal.notify('rollcall_bundles',
      (rollcall_internal.mask_ids(v_nonce, array[p_user]))[1] || '|'
        || array_to_string(p_bundles[v_first : v_first + 79], ','), v_nonce);
  end loop;
end
$$;
comment on function rollcall_internal.notify_bundles_ready is
  'Notifies nodes of compiled bundles, given as `type:id:version`.';

-- Waits at most 300 ms for a lock, well below deadlock_timeout: a transaction that flagged these bundles may be about
-- to delete their subjects. Bundles that were not stored stay dirty and are compiled again (complete_actions).
-- p_access: the access version that the sources were read under; null: it changed while they were read.
-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.store_compiled_bundles(
  p_user uuid, p_bundles jsonb, p_seeing text, p_read_at timestamptz, p_notify boolean,
  p_access bigint default rollcall.context_access_version()
) returns table (id uuid, bundle_type rollcall.bundle_type, version bigint, dirty boolean)
  language plpgsql volatile security definer set lock_timeout = '300ms'
as $$
declare
  v_stored uuid[];
  v_stale uuid[];
begin
  perform rollcall_internal.check_search_path();
  select array_agg(s.id) into v_stored
    from rollcall_internal.store_bundles(p_user, p_bundles, p_seeing::pg_snapshot, p_read_at,
      p_access) s;
  if v_stored is null then
    return;
  end if;
  -- If policies change back, mark_stale_by_access looks for bundles of this version.
  update rollcall_internal.context_access_version a set version = p_access where a.version <> p_access;
  v_stale := rollcall_internal.finish_compilation(v_stored);
  if p_notify then
    perform rollcall_internal.notify_bundles_ready(p_user, array(
      select format('%s:%s:%s', b.bundle_type, b.id, b.version)
      from rollcall.context_bundles b where b.id = any (v_stored) and b.id <> all (v_stale)));
  end if;
  return query
    select b.id, b.bundle_type, b.version, b.id = any (v_stale)
    from rollcall.context_bundles b where b.id = any (v_stored);
exception when lock_not_available or deadlock_detected then
  return;
end
$$;
comment on function rollcall_internal.store_compiled_bundles is
  'Stores compiled bundles and notifies the users sockets if asked; no rows where others hold the locks.';

-- Definer: only the server writes bundles.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.count_bundle_uses(p_bundles uuid[], p_hits int[], p_misses int[]) returns void
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  update rollcall.context_bundles b set
    use_count = b.use_count + free.hits + free.misses,
    hit_count = b.hit_count + free.hits,
    miss_count = b.miss_count + free.misses,
    last_used_at = clock_timestamp()
  from (
    select l.id, u.hits, u.misses
    from unnest(p_bundles, p_hits, p_misses) u (id, hits, misses) join rollcall.context_bundles l on l.id = u.id
    order by l.id for no key update of l skip locked
  ) free
  where b.id = free.id;
end
$$;
comment on function rollcall_internal.count_bundle_uses is 'Counts how often prompts used bundles; skips locked rows.';

-- Queue ---------------------------------------------------------------------------------------------------------------

-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.enqueue_warm_up() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  insert into rollcall.system_actions (user_id, kind, trigger)
  select new.user_id, 'warm_up', 'presence'
  where not exists (
    select from rollcall.system_actions a where a.user_id = new.user_id and a.kind = 'warm_up'
      and a.status = 'pending');
  return null;
end
$$;
comment on function rollcall_internal.enqueue_warm_up is
  'Trigger function: queues one warm-up per user when context signals change.';

create trigger enqueue_warm_up_of_new after insert on rollcall.presence_devices
  for each row when (new.context_version is not null) execute function rollcall_internal.enqueue_warm_up();
create trigger enqueue_warm_up after update of active_conversation_id, visible_conversation_ids, active_notebook_id,
    active_persona_id, last_navigation_path, local_time on rollcall.presence_devices
  for each row when (old.context_version is distinct from new.context_version)
  execute function rollcall_internal.enqueue_warm_up();

-- A user waits for a warm-up.
-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.claim_actions(p_limit int)
  returns table (id uuid, user_id uuid, kind text, bundle_id uuid, bundle_type rollcall.bundle_type, ref uuid,
    attempts int)
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  return query
    with due as (
      select a.id from rollcall.system_actions a
      where a.status = 'pending' and a.run_after <= clock_timestamp()
      order by a.kind desc, a.run_after, a.id
      limit p_limit for update skip locked
    ),
    taken as (
      update rollcall.system_actions a set status = 'processing', attempts = a.attempts + 1,
        started_at = clock_timestamp()
      from due where a.id = due.id
      returning a.*
    )
    select t.id, t.user_id, t.kind, t.bundle_id, b.bundle_type, coalesce(b.topic_id, b.entity_id, b.conversation_id),
      t.attempts
    from taken t left join rollcall.context_bundles b on b.id = t.bundle_id
    order by t.id;
end
$$;
comment on function rollcall_internal.claim_actions is 'Claims due entries of the background queue, warm-ups first.';

-- A bundle stays dirty when storing skipped it. It is retried after 500 ms unless a newer entry exists.
-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.complete_actions(p_actions uuid[]) returns void
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  update rollcall.system_actions a set
    status = case when l.left_out then 'pending' else 'completed' end::rollcall.action_status,
    run_after = case when l.left_out then clock_timestamp() + interval '500 milliseconds' else a.run_after end,
    finished_at = case when not l.left_out then clock_timestamp() end,
    error = null
  from (
    select x.id, exists (select from rollcall.context_bundles b where b.id = x.bundle_id and b.dirty)
      and not exists (select from rollcall.system_actions o where o.bundle_id = x.bundle_id and o.status = 'pending')
      as left_out
    from rollcall.system_actions x where x.id = any (p_actions)
  ) l
  where a.id = l.id and a.status = 'processing';
end
$$;
comment on function rollcall_internal.complete_actions is
  'Ends queue entries; one whose bundle is still dirty is queued again.';

-- Given up: status `failed`, with the error.
-- Definer: only the server writes the queue.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.fail_action(p_action uuid, p_error text, p_wait interval,
  p_max_attempts int) returns void
  language plpgsql volatile security definer
as $$
declare
  v_action rollcall.system_actions;
begin
  perform rollcall_internal.check_search_path();
  select * into v_action from rollcall.system_actions a where a.id = p_action and a.status = 'processing' for update;
  if not found then
    return;
  end if;
  update rollcall.system_actions a set
    error = left(p_error, 1000),
    finished_at = clock_timestamp(),
    run_after = clock_timestamp() + p_wait,
    status = case
      when a.attempts >= p_max_attempts then 'failed'
      -- A newer entry replaces it.
      when a.bundle_id is not null and exists (
        select from rollcall.system_actions o where o.bundle_id = a.bundle_id and o.status = 'pending') then 'completed'
      else 'pending' end::rollcall.action_status
  where a.id = p_action;
end
$$;
comment on function rollcall_internal.fail_action is
  'Schedules a failed queue entry again, or gives it up after its last attempt.';

-- Also returns entries to the queue that were claimed more than five minutes ago.
-- Definer: acts on rows of all users; for the server only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.purge_context() returns bigint
  language plpgsql volatile security definer
as $$
declare
  v_count bigint;
  v_all bigint := 0;
begin
  perform rollcall_internal.check_search_path();
  if not pg_try_advisory_xact_lock(hashtextextended('rollcall_internal.purge_context', 0)) then
    return 0;
  end if;
  perform rollcall_internal.mark_stale_bundles();
  -- Twice the age of the oldest sources that may still be stored.
  delete from rollcall_internal.context_source_changes m where m.seen_at < clock_timestamp() - interval '10 minutes';
  get diagnostics v_all = row_count;
  update rollcall.system_actions a set status = 'completed', finished_at = clock_timestamp(), error = 'overtaken'
  where a.status = 'processing' and a.started_at < clock_timestamp() - interval '5 minutes' and a.bundle_id is not null
    and exists (select from rollcall.system_actions o where o.bundle_id = a.bundle_id and o.status = 'pending');
  update rollcall.system_actions a set status = 'pending', run_after = clock_timestamp()
  where a.status = 'processing' and a.started_at < clock_timestamp() - interval '5 minutes';
  -- A dirty bundle without an entry, such as one given up long ago, is compiled when it is next needed.
  delete from rollcall.system_actions a where a.status = 'completed'
    and a.finished_at < clock_timestamp() - interval '1 hour';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from rollcall.system_actions a where a.status = 'failed'
    and a.finished_at < clock_timestamp() - interval '30 days';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from rollcall.model_usage u where u.created_at < clock_timestamp() - interval '400 days';
  get diagnostics v_count = row_count;
  v_all := v_all + v_count;
  delete from rollcall.context_bundles b
  where b.expires_at < clock_timestamp() - interval '7 days'
    and coalesce(b.last_used_at, b.compiled_at) < clock_timestamp() - interval '30 days';
  get diagnostics v_count = row_count;
  return v_all + v_count;
end
$$;
comment on function rollcall_internal.purge_context is
  'Processes recorded changes and deletes expired rows of the context engine; returns how many.';

-- Embeddings ----------------------------------------------------------------------------------------------------------

-- Search by meaning, where the server has an embeddings API and the database has pgvector. A vector is always of the
-- current text of its row.

-- For vectors of p_dimensions numbers by p_model; vectors of another model are deleted. Objects that name the type
-- `vector` are created here, because the type may not exist at installation.
-- Invoker: for the owner of the tables, which the server is.
-- Over 60 lines: it creates a table, an index, six triggers and four functions.
create function rollcall_internal.prepare_vectors(p_model text, p_dimensions int) returns boolean
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_schema text;
  v_version text;
  v_indexed boolean;
  v_made_for constant text := format('%s numbers by %s', p_dimensions, p_model);
begin
  perform pg_advisory_xact_lock(hashtextextended('rollcall_internal.vectors', 0));
  if not exists (select from pg_catalog.pg_extension e where e.extname = 'vector') then
    begin
      create extension vector with schema extensions;
      insert into rollcall_internal.installed_objects (kind, name, undo)
        values ('extension', 'vector', 'drop extension if exists vector cascade');
    exception when others then
      raise notice 'pgvector is not available (%): search uses words only', sqlerrm;
      return false;
    end;
  end if;
  select n.nspname, e.extversion into v_schema, v_version
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  if obj_description(to_regclass('rollcall_internal.vectors'), 'pg_class') = v_made_for then
    return true;
  end if;

  if to_regclass('rollcall_internal.vectors') is not null then
    delete from rollcall.personal_data d where d.relation = to_regclass('rollcall_internal.vectors');
    drop table rollcall_internal.vectors;
  end if;
  execute format($f$
    create table rollcall_internal.vectors (
      kind text not null constraint vectors_kind_is_known check (kind in ('unit', 'memory')),
      id uuid not null,
      user_id uuid not null,
      vector %1$I.vector(%2$s),
      version bigint not null default 1,
      attempts int not null default 0,
      run_after timestamptz not null default now(),
      constraint vectors_pkey primary key (kind, id)
    )$f$, v_schema, p_dimensions);
  execute format('comment on table rollcall_internal.vectors is %L', v_made_for);
  -- In the row where one fits into a page: reading a value from elsewhere costs more than comparing it.
  if p_dimensions <= 1900 then
    alter table rollcall_internal.vectors alter column vector set storage plain;
  end if;
  create index vectors_user_id on rollcall_internal.vectors (user_id, kind);
  create index vectors_wanted on rollcall_internal.vectors (run_after) where vector is null;
  alter table rollcall_internal.vectors enable row level security;
  insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason)
    values ('rollcall_internal.vectors', 'user_id', false, null,
      'numbers made of units and memories, with which they go');
  insert into rollcall_internal.vectors (kind, id, user_id)
    select 'unit', u.id, u.user_id from rollcall.atomic_chat_units u
    union all
    select 'memory', m.id, m.user_id from rollcall.memories m;

  -- Definer: called from triggers of any writer; only the server writes the table.
  create or replace function rollcall_internal.enqueue_embeddings() returns trigger
    language plpgsql volatile security definer set search_path = ''
  as $f$
  begin
    if tg_op = 'INSERT' then
      insert into rollcall_internal.vectors (kind, id, user_id) select tg_argv[0], c.id, c.user_id from new_rows c
        on conflict (kind, id) do nothing;
    elsif tg_op = 'DELETE' then
      delete from rollcall_internal.vectors v using old_rows g where v.kind = tg_argv[0] and v.id = g.id;
    else
      update rollcall_internal.vectors v set user_id = c.user_id, version = v.version + 1, attempts = 0,
        run_after = clock_timestamp(),
          vector = null
        from old_rows g join new_rows c on c.id = g.id
        where v.kind = tg_argv[0] and v.id = c.id and (g.content, g.user_id) is distinct from (c.content, c.user_id);
    end if;
    return null;
  end
  $f$;
  create or replace trigger enqueue_embeddings_of_new after insert on rollcall.atomic_chat_units
    referencing new table as new_rows for each statement execute function rollcall_internal.enqueue_embeddings('unit');
  create or replace trigger enqueue_embeddings after update on rollcall.atomic_chat_units
    referencing old table as old_rows new table as new_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('unit');
  create or replace trigger delete_embeddings after delete on rollcall.atomic_chat_units
    referencing old table as old_rows for each statement execute function rollcall_internal.enqueue_embeddings('unit');
  create or replace trigger enqueue_embeddings_of_new after insert on rollcall.memories
    referencing new table as new_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('memory');
  create or replace trigger enqueue_embeddings after update on rollcall.memories
    referencing old table as old_rows new table as new_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('memory');
  create or replace trigger delete_embeddings after delete on rollcall.memories
    referencing old table as old_rows for each statement
      execute function rollcall_internal.enqueue_embeddings('memory');

  -- Stores vectors of texts that have not changed since; returns how many. Definer: only the server writes vectors.
  execute format($f$
    create or replace function rollcall_internal.store_vectors(p_kinds text[], p_ids uuid[], p_versions bigint[],
      p_vectors text[]) returns bigint
      language sql volatile security definer set search_path = ''
    as $g$
      with stored as (
        update rollcall_internal.vectors v set vector = x.vector::%1$I.vector, attempts = 0
        from unnest(p_kinds, p_ids, p_versions, p_vectors) x (kind, id, version, vector)
        where v.kind = x.kind and v.id = x.id and v.version = x.version
        returning 1
      )
      select count(*) from stored
    $g$
    $f$, v_schema);
  -- At most 2,000 dimensions can be indexed, since pgvector 0.5.
  v_indexed := p_dimensions <= 2000 and exists (select from pg_catalog.pg_am a where a.amname = 'hnsw');
  if v_indexed then
    execute format('create index vectors_nearest on rollcall_internal.vectors using hnsw (vector %I.vector_cosine_ops)',
      v_schema);
    -- By the index, which ranks the vectors of all users: fewer than p_limit rows if others' are nearer. Without sorts
    -- the planner has no other choice. Definer: see match_embeddings.
    execute format($f$
      create or replace function rollcall_internal.nearest_by_index(p_user uuid, p_kind text, p_vector %1$I.vector,
        p_limit int) returns table (id uuid, score real)
        language plpgsql stable security definer rows 40 set search_path = '' set enable_sort = off
        set hnsw.ef_search = 200 %2$s
      as $g$
      begin
        return query
          select v.id, (1 - (v.vector operator(%1$I.<=>) p_vector))::real
          from rollcall_internal.vectors v
          where v.user_id = p_user and v.kind = p_kind and v.vector is not null
          order by v.vector operator(%1$I.<=>) p_vector
          limit p_limit;
      end
      $g$
      $f$, v_schema, case when string_to_array(v_version, '.')::int[] >= '{0,8}'
        then 'set hnsw.iterative_scan = strict_order' end);
    revoke execute on function rollcall_internal.nearest_by_index from public;
  end if;
  -- The caller's units or memories with the nearest vectors, best first, with the cosine similarity. Exact up to 4,000
  -- vectors (10 ms with 1,536 dimensions), and where the index finds too few. Definer: reads vectors; answers for
  -- auth.uid() only, with ids.
  execute format($f$
    create or replace function rollcall.match_embeddings(p_kind text, p_vector text,
      p_limit int) returns table (id uuid, score real)
      language plpgsql stable security definer set search_path = '' rows 40
    as $g$
    declare
      v_me constant uuid := auth.uid();
      -- Parsed once, not once per row.
      v_vector constant %1$I.vector := p_vector::%1$I.vector;
      v_ids uuid[];
      v_scores real[];
    begin
      if %2$s and exists (
        select from rollcall_internal.vectors v where v.user_id = v_me and v.kind = p_kind offset 4000 limit 1
      ) then
        %3$s
        if cardinality(v_ids) = p_limit then
          return query select * from unnest(v_ids, v_scores);
          return;
        end if;
      end if;
      return query
        select d.id, (1 - d.distance)::real
        from (
          select v.id, v.vector operator(%1$I.<=>) v_vector as distance from rollcall_internal.vectors v
          where v.user_id = v_me and v.kind = p_kind and v.vector is not null offset 0
        ) d
        order by d.distance, d.id
        limit p_limit;
    end
    $g$
    $f$, v_schema, v_indexed::text, case when v_indexed then
      'select array_agg(n.id), array_agg(n.score) into v_ids, v_scores
          from rollcall_internal.nearest_by_index(v_me, p_kind, v_vector, p_limit) n;' end);
  revoke execute on function rollcall_internal.enqueue_embeddings(),
    rollcall_internal.store_vectors(text[], uuid[], bigint[], text[]),
    rollcall.match_embeddings(text, text, int) from public;
  grant execute on function rollcall.match_embeddings(text, text, int) to authenticated, service_role;
  comment on function rollcall_internal.enqueue_embeddings is
    'Trigger function: queues new and changed texts for an embedding.';
  comment on function rollcall_internal.store_vectors is 'Stores vectors of unchanged texts; returns how many.';
  comment on function rollcall.match_embeddings is 'The caller''s units or memories with the nearest vectors.';
  perform rollcall_internal.record_triggers();
  return true;
end
$$;
comment on function rollcall_internal.prepare_vectors is
  'Creates what search by meaning needs; false where the database has no pgvector.';

-- Invoker: for the server only.
create function rollcall_internal.claim_embedding_texts(p_limit int) returns table (kind text, id uuid, version bigint,
  content text)
  language plpgsql volatile security invoker set search_path = ''
as $$
begin
  return query
    with due as (
      select v.kind, v.id from rollcall_internal.vectors v
      where v.vector is null and v.run_after <= clock_timestamp()
      order by v.run_after limit p_limit for update skip locked
    ),
    taken as (
      update rollcall_internal.vectors v set attempts = v.attempts + 1,
        run_after = clock_timestamp() + least(interval '1 hour',
          interval '30 seconds' * 2 ^ least(v.attempts, 8)) * (0.75 + random() / 2)
      from due where v.kind = due.kind and v.id = due.id
      returning v.kind, v.id, v.version
    )
    select t.kind, t.id, t.version, x.content
    from taken t
    cross join lateral (
      select u.content from rollcall.atomic_chat_units u where t.kind = 'unit' and u.id = t.id
      union all
      select m.content from rollcall.memories m where t.kind = 'memory' and m.id = t.id
    ) x;
end
$$;
comment on function rollcall_internal.claim_embedding_texts is
  'Claims texts that need an embedding; a text that is not stored is claimed again later.';

-- schemas/90_roll_ups.sql --------------------------------------------------------------------------------------------

-- The roll-up: from units to the profiles of topics and entities. At most one per user at a time, on any node, by a
-- lease that its holder must still have when it writes.

create table rollcall_internal.roll_ups (
  user_id uuid primary key,
  lease uuid,
  lease_expires_at timestamptz,
  last_started_at timestamptz,
  last_finished_at timestamptz
);
comment on table rollcall_internal.roll_ups is 'Which users have a roll-up running, and when the last one was.';
-- No policies: only the server uses it.
alter table rollcall_internal.roll_ups enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  -- First: a roll-up that is running loses its lease and writes nothing.
  ('rollcall_internal.roll_ups', 'user_id', false, 5, 'when the server last processed the user''s units');

-- The lease of three minutes is longer than the longest roll-up.
-- Definer: for the server only.
create function rollcall_internal.begin_roll_up(p_user uuid, p_force boolean) returns uuid
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_lease uuid;
begin
  insert into rollcall_internal.roll_ups as r (user_id, lease, lease_expires_at, last_started_at)
  values (p_user, gen_random_uuid(), clock_timestamp() + interval '3 minutes', clock_timestamp())
  on conflict (user_id) do update set lease = excluded.lease, lease_expires_at = excluded.lease_expires_at,
    last_started_at = excluded.last_started_at
  where r.lease is null or r.lease_expires_at < clock_timestamp() or p_force
  returning lease into v_lease;
  return v_lease;
end
$$;
comment on function rollcall_internal.begin_roll_up is
  'Takes the roll-up lease of a user; null where another holder has it, unless p_force takes it over.';

-- Definer: for the server only.
create function rollcall_internal.end_roll_up(p_user uuid, p_lease uuid) returns void
  language sql volatile security definer set search_path = ''
as $$
  update rollcall_internal.roll_ups r set lease = null, lease_expires_at = null, last_finished_at = clock_timestamp()
  where r.user_id = p_user and r.lease = p_lease
$$;
comment on function rollcall_internal.end_roll_up is 'Releases the roll-up lease of a user.';

-- Definer: for the server only.
create function rollcall_internal.roll_ups_due(p_limit int) returns setof uuid
  language sql stable security definer set search_path = ''
as $$
  select u.user_id from rollcall.atomic_chat_units u
  where u.processed_at is null and u.state = 'active'
  group by u.user_id
  order by min(u.created_at)
  limit p_limit
$$;
comment on function rollcall_internal.roll_ups_due is 'Users with unprocessed units, longest waiting first.';

-- Oldest units first. Each word is [token, stem]; an empty stem is a stop word, null ends a phrase.
-- Invoker: see bundle_sources.
create function rollcall.roll_up_sources(p_limit int) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return jsonb_build_object(
    'units', coalesce((
      select jsonb_agg(jsonb_build_object('id', u.id, 'conversation_id', u.conversation_id, 'content', u.content,
          'created_at', u.created_at, 'words', w.words) order by u.created_at, u.id)
      from (
        select * from rollcall.atomic_chat_units u
        where u.user_id = v_me and u.processed_at is null and u.state = 'active'
        order by u.created_at, u.id limit p_limit
      ) u
      cross join lateral (
        -- Blanks of spaces only join words; all others separate phrases.
        select coalesce(jsonb_agg(case when p.tokid = 12 then null
            else jsonb_build_array(p.token, coalesce((ts_lexize('pg_catalog.english_stem', lower(p.token)))[1], '')) end
          order by p.n) filter (where p.tokid <> 12 or btrim(p.token, ' -') <> ''), '[]') as words
        from ts_parse('default', u.content) with ordinality p (tokid, token, n)
        -- Parts of a compound follow the whole; tags and entities are not words.
        where p.tokid not in (9, 10, 11, 13, 14)
      ) w), '[]'),
    'corpus', (
      select jsonb_build_object('units', count(*), 'groups',
        count(distinct coalesce(u.conversation_id::text, u.created_at::date::text)))
      from rollcall.atomic_chat_units u where u.user_id = v_me and u.state = 'active'),
    'topics', coalesce((
      select jsonb_agg(jsonb_build_object('id', t.id, 'slug', t.slug, 'label', t.label, 'aliases', t.aliases))
      from rollcall.topic_profiles t where t.user_id = v_me), '[]'),
    'entities', coalesce((
      select jsonb_agg(jsonb_build_object('id', e.id, 'slug', e.slug, 'name', e.name, 'aliases', e.aliases,
        'entity_type', e.entity_type, 'facts', e.facts, 'relationship', e.relationship))
      from rollcall.entity_profiles e where e.user_id = v_me), '[]'));
end
$$;
comment on function rollcall.roll_up_sources is
  'What a roll-up of the caller works on: unprocessed units with their words, and existing profiles.';
grant execute on function rollcall.roll_up_sources to authenticated, service_role;

-- For each phrase the ids of at most p_limit units, and how many groups they are in; a group is a conversation or,
-- without one, a day.
-- Definer: for the index, see match_words; answers for auth.uid() only.
create function rollcall.my_phrases(p_phrases text[], p_limit int)
  returns table (phrase text, unit_ids uuid[], units bigint, groups bigint)
  language plpgsql stable security definer set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query
    select p.phrase, (array_agg(u.id order by u.created_at desc))[1:p_limit], count(u.id),
      count(distinct coalesce(u.conversation_id::text, u.created_at::date::text))
    from unnest(p_phrases) p (phrase)
    join rollcall.atomic_chat_units u on u.user_id = v_me and u.state = 'active'
      and u.search @@ phraseto_tsquery('pg_catalog.english', p.phrase)
    group by p.phrase;
end
$$;
comment on function rollcall.my_phrases is 'Where phrases occur in the callers active units.';
grant execute on function rollcall.my_phrases to authenticated, service_role;

-- p_found:
-- {"units": [processed ids],
--  "topics": [{"slug", "label", "aliases", "domain", "unit_ids", "relevances"}],
--  "entities": [{"slug", "name", "aliases", "entity_type", "relationship", "sentiment", "facts", "unit_ids"}]}.
-- Existing profiles gain aliases, units and facts and lose nothing; what the user set (label, domain, relationship)
-- stays. Counts and times come from all units that a profile is linked to.
-- Definer: writes counts that users may only read; every row is checked to belong to p_user.
-- Over 60 lines: profiles, links, counts and units are written under one lease.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.apply_roll_up(p_user uuid, p_lease uuid, p_found jsonb) returns jsonb
  language plpgsql volatile security definer
as $$
declare
  v_topics_created bigint;
  v_topics_updated bigint;
  v_entities_created bigint;
  v_entities_updated bigint;
  v_processed bigint;
  v_topics uuid[];
  v_entities uuid[];
begin
  perform rollcall_internal.check_search_path();
  perform from rollcall_internal.roll_ups r
  where r.user_id = p_user and r.lease = p_lease and r.lease_expires_at > clock_timestamp() for update;
  if not found then
    return null;
  end if;

  with found as (
    select * from jsonb_to_recordset(p_found -> 'topics')
      as x (slug text, label text, aliases text[], domain rollcall.topic_domain, unit_ids uuid[], relevances real[])
  ),
  merged as (
    insert into rollcall.topic_profiles as t (user_id, slug, label, aliases, domain)
    select p_user, f.slug, f.label, f.aliases[1:50], f.domain from found f
    on conflict (user_id, slug) do update set
      aliases = (select coalesce(array_agg(a order by n), '{}') from (
        select a, min(n) as n from unnest(t.aliases || excluded.aliases) with ordinality z (a, n)
        where lower(a) <> lower(t.label) group by a order by min(n) limit 50) z),
      domain = coalesce(t.domain, excluded.domain),
      dirty = false
    returning t.id, t.slug, t.xmax = 0 as is_new
  ),
  linked as (
    insert into rollcall.topic_units (topic_id, unit_id, user_id, relevance)
    select m.id, u.id, p_user, max(greatest(0, least(1, coalesce(l.relevance, 0.5))))
    from found f join merged m using (slug)
    cross join lateral unnest(f.unit_ids, f.relevances) l (unit_id, relevance)
    join rollcall.atomic_chat_units u on u.id = l.unit_id and u.user_id = p_user
    group by m.id, u.id
    on conflict (topic_id, unit_id) do update set relevance = excluded.relevance
      where rollcall.topic_units.relevance < excluded.relevance
  )
  select count(*) filter (where m.is_new), count(*) filter (where not m.is_new), coalesce(array_agg(m.id), '{}')
    into v_topics_created, v_topics_updated, v_topics from merged m;
  v_topics := v_topics || array(select t.id from rollcall.topic_profiles t where t.user_id = p_user and t.dirty);

  with found as (
    select * from jsonb_to_recordset(p_found -> 'entities')
      as x (slug text, name text, aliases text[], entity_type rollcall.entity_type, relationship text, sentiment real,
        facts jsonb, unit_ids uuid[])
  ),
  merged as (
    insert into rollcall.entity_profiles as e (user_id, slug, name, aliases, entity_type, relationship, sentiment,
      facts)
    select p_user, f.slug, f.name, f.aliases[1:50], f.entity_type, f.relationship, coalesce(f.sentiment, 0),
      coalesce(f.facts, '[]')
    from found f
    on conflict (user_id, slug) do update set
      aliases = (select coalesce(array_agg(a order by n), '{}') from (
        select a, min(n) as n from unnest(e.aliases || excluded.aliases) with ordinality z (a, n)
        where lower(a) <> lower(e.name) group by a order by min(n) limit 50) z),
      relationship = coalesce(e.relationship, excluded.relationship),
      sentiment = (e.sentiment + excluded.sentiment) / 2,
      -- Each fact once, the twenty with the highest confidence.
      facts = (select coalesce(jsonb_agg(z.f order by (z.f ->> 'confidence')::real desc), '[]') from (
        select distinct on (f ->> 'fact') f from jsonb_array_elements(e.facts || excluded.facts) f
        where jsonb_typeof(f) = 'object' and f ? 'fact' and jsonb_typeof(f -> 'confidence') = 'number'
        order by f ->> 'fact', (f ->> 'confidence')::real desc limit 20) z)
    returning e.id, e.slug, e.xmax = 0 as is_new
  ),
  linked as (
    insert into rollcall.entity_units (entity_id, unit_id, user_id)
    select distinct m.id, u.id, p_user
    from found f join merged m using (slug) cross join lateral unnest(f.unit_ids) l (unit_id)
    join rollcall.atomic_chat_units u on u.id = l.unit_id and u.user_id = p_user
    on conflict (entity_id, unit_id) do nothing
  )
  select count(*) filter (where m.is_new), count(*) filter (where not m.is_new), coalesce(array_agg(m.id), '{}')
    into v_entities_created, v_entities_updated, v_entities from merged m;

  -- Counts, times and importance. Importance never decreases here.
  update rollcall.topic_profiles t set
    unit_count = c.units, token_count = c.tokens, conversation_count = c.conversations, message_count = c.messages,
    first_engaged_at = c.first_at, last_engaged_at = c.last_at, streak_days = c.streak, peak_hour = c.peak_hour,
    importance = greatest(t.importance, least(1, 0.5 + least(0.3, 0.01 * c.units)
      + 0.15 * c.recent / greatest(1, c.units)
      + case t.domain when 'engineering' then 0.1 when 'business' then 0.05 else 0 end))::real,
    proficiency = case
      when c.units >= 60 and c.days >= 20 then 'expert'
      when c.units >= 30 and c.days >= 8 then 'advanced'
      when c.units >= 12 then 'intermediate'
      when c.units >= 5 then 'beginner'
      else 'unknown' end::rollcall.proficiency,
    proficiency_signals = jsonb_build_object('units', c.units, 'days', c.days, 'questions', c.questions),
    version = t.version + 1, dirty = false
  from (
    select l.topic_id, count(*) as units, coalesce(sum(coalesce(u.token_count, length(u.content) / 4)), 0) as tokens,
      count(distinct u.conversation_id) as conversations, count(distinct u.message_id) as messages,
      min(u.created_at) as first_at, max(u.created_at) as last_at,
      count(*) filter (where u.created_at > now() - interval '7 days') as recent,
      count(distinct u.created_at::date) as days,
      count(*) filter (where u.content ~ '\?\s*$') as questions,
      mode() within group (order by extract(hour from u.created_at)::int) as peak_hour,
      -- Consecutive days up to the last one.
      (select count(*) from (
        select d.day, max(d.day) over () - d.day as back, row_number() over (order by d.day desc) - 1 as n
        from (select distinct u2.created_at::date as day from rollcall.topic_units l2
          join rollcall.atomic_chat_units u2 on u2.id = l2.unit_id
          where l2.topic_id = l.topic_id and u2.state = 'active') d) s where s.back = s.n) as streak
    from rollcall.topic_units l join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active'
    where l.topic_id = any (v_topics)
    group by l.topic_id
  ) c
  where t.id = c.topic_id and t.user_id = p_user;

  update rollcall.entity_profiles e set
    mention_count = c.units, conversation_count = c.conversations, first_mentioned_at = c.first_at,
    last_mentioned_at = c.last_at,
    importance = greatest(e.importance, least(1, 0.5 + least(0.2, 0.02 * c.units)
      + case when c.conversations > 1 then 0.1 else 0 end))::real,
    version = e.version + 1, dirty = false
  from (
    select l.entity_id, count(*) as units, count(distinct u.conversation_id) as conversations,
      min(u.created_at) as first_at, max(u.created_at) as last_at
    from rollcall.entity_units l join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active'
    where l.entity_id = any (v_entities)
    group by l.entity_id
  ) c
  where e.id = c.entity_id and e.user_id = p_user;

  -- The relevance of a topic is its share of the conversation's units.
  insert into rollcall.topic_conversations (topic_id, conversation_id, user_id, relevance, last_seen_at)
  select l.topic_id, u.conversation_id, p_user,
    least(1, count(*)::real / greatest(1, (select count(*) from rollcall.atomic_chat_units o
      where o.conversation_id = u.conversation_id and o.user_id = p_user and o.state = 'active')))::real,
    max(u.created_at)
  from rollcall.topic_units l
  join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active' and u.conversation_id is not null
  where l.topic_id = any (v_topics)
  group by l.topic_id, u.conversation_id
  on conflict (topic_id, conversation_id) do update set relevance = excluded.relevance,
    last_seen_at = excluded.last_seen_at
    where (rollcall.topic_conversations.relevance, rollcall.topic_conversations.last_seen_at)
      is distinct from (excluded.relevance, excluded.last_seen_at);

  insert into rollcall.entity_conversations (entity_id, conversation_id, user_id, mentions)
  select l.entity_id, u.conversation_id, p_user, count(*)
  from rollcall.entity_units l
  join rollcall.atomic_chat_units u on u.id = l.unit_id and u.state = 'active' and u.conversation_id is not null
  where l.entity_id = any (v_entities)
  group by l.entity_id, u.conversation_id
  on conflict (entity_id, conversation_id) do update set mentions = excluded.mentions
    where rollcall.entity_conversations.mentions <> excluded.mentions;

  update rollcall.atomic_chat_units u set processed_at = clock_timestamp()
  where u.user_id = p_user and u.processed_at is null
    and u.id in (select (x #>> '{}')::uuid from jsonb_array_elements(p_found -> 'units') x);
  get diagnostics v_processed = row_count;

  return jsonb_build_object('topicsCreated', v_topics_created, 'topicsUpdated', v_topics_updated,
    'entitiesCreated', v_entities_created, 'entitiesUpdated', v_entities_updated, 'acusProcessed', v_processed);
end
$$;
comment on function rollcall_internal.apply_roll_up is 'Writes the result of a roll-up; null where its lease was lost.';

-- schemas/92_memory.sql ----------------------------------------------------------------------------------------------

-- Memory: the server takes units and memories from the messages of users, in the background. Each message is processed
-- once: its queue entry is deleted in the transaction that stores what was learned. At most one batch per user at a
-- time, on any node, by a lease that its holder must still have when it writes.

-- Appended to by transactions of the application, which therefore never wait here. Entries of deleted messages are
-- skipped when they are processed.
create table rollcall_internal.messages_to_learn (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  message_id uuid not null
);
comment on table rollcall_internal.messages_to_learn is
  'Messages that the server has not learned from yet, oldest first.';
create index messages_to_learn_user_id on rollcall_internal.messages_to_learn (user_id, id);
-- No policies: only the server uses it.
alter table rollcall_internal.messages_to_learn enable row level security;

create table rollcall_internal.learning_turns (
  user_id uuid primary key,
  lease uuid,
  lease_expires_at timestamptz,
  attempts int not null default 0,
  run_after timestamptz not null default now(),
  error text
);
comment on table rollcall_internal.learning_turns is 'Users whose messages a server processes, or will process again.';
-- No policies: only the server uses it.
alter table rollcall_internal.learning_turns enable row level security;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  -- First: a server that is learning loses its lease and writes nothing.
  ('rollcall_internal.learning_turns', 'user_id', false, 6, 'when the server last learned from the user''s messages'),
  ('rollcall_internal.messages_to_learn', 'user_id', false, 7, 'ids only, deleted when the messages are processed');

-- Switches ------------------------------------------------------------------------------------------------------------

create table rollcall.memory_settings (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  conversation_id uuid references rollcall.conversations (id) on delete cascade,
  learns boolean not null default true,
  notebook_id uuid references rollcall.notebooks (id) on delete set null,
  updated_at timestamptz not null default now(),
  constraint memory_settings_subject unique nulls not distinct (user_id, conversation_id)
);
comment on table rollcall.memory_settings is
  'Whether the server learns from the messages of a user: in one conversation, or without one in any.';
comment on column rollcall.memory_settings.notebook_id is 'The notebook of what is learned there.';
create index memory_settings_conversation_id on rollcall.memory_settings (conversation_id)
  where conversation_id is not null;
create index memory_settings_notebook_id on rollcall.memory_settings (notebook_id) where notebook_id is not null;
alter table rollcall.memory_settings enable row level security;
create policy "own memory settings" on rollcall.memory_settings for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
    and (notebook_id is null or notebook_id in (select n.id from rollcall.notebooks n))
    and (conversation_id is null or conversation_id in (select rollcall.my_conversations())));
create policy "service_role has full access" on rollcall.memory_settings
  for all to service_role using (true) with check (true);
revoke all on rollcall.memory_settings from anon, authenticated, service_role;
grant select, delete, insert (id, user_id, conversation_id, learns, notebook_id), update (learns, notebook_id)
  on rollcall.memory_settings to authenticated;
grant all on rollcall.memory_settings to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.memory_settings', 'user_id', true, 40, null);

create trigger set_updated_at before update on rollcall.memory_settings
  for each row execute function rollcall_internal.set_updated_at();

-- Definer: triggers of any writer ask for the author of a message; tells nothing else.
create function rollcall_internal.learns_from(p_user uuid, p_conversation uuid) returns boolean
  language plpgsql stable security definer set search_path = ''
as $$
begin
  return not exists (
    select from rollcall.memory_settings s
    where s.user_id = p_user and (s.conversation_id is null or s.conversation_id = p_conversation) and not s.learns);
end
$$;
comment on function rollcall_internal.learns_from is
  'Whether the server learns from messages of a user in a conversation: neither switch is off.';

-- Definer: for the server only.
create function rollcall_internal.notebook_of(p_user uuid, p_conversation uuid) returns uuid
  language sql stable security definer set search_path = ''
as $$
  select s.notebook_id from rollcall.memory_settings s
  where s.user_id = p_user and (s.conversation_id is null or s.conversation_id = p_conversation)
    and s.notebook_id is not null
  order by s.conversation_id nulls last limit 1
$$;
comment on function rollcall_internal.notebook_of is
  'The notebook of what is learned from a user in a conversation: its own, else that of all conversations.';

-- Queue ---------------------------------------------------------------------------------------------------------------

-- At most 10,000 entries per user; messages beyond that are not learned from.
-- Definer: only the server writes the queue.
create function rollcall_internal.enqueue_messages() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into rollcall_internal.messages_to_learn (user_id, message_id)
  select x.user_id, x.id
  from (
    select c.user_id, c.id, row_number() over (partition by c.user_id order by c.message_index) as n
    from new_rows c
    where c.role = 'user' and c.state = 'complete'
      and rollcall_internal.learns_from(c.user_id, c.conversation_id)
  ) x
  where x.n <= 10000 and not exists (
    select from rollcall_internal.messages_to_learn q where q.user_id = x.user_id offset 10000 limit 1)
  order by x.n;
  return null;
end
$$;
comment on function rollcall_internal.enqueue_messages is 'Trigger function: queues messages of users to learn from.';

create trigger enqueue_messages after insert on rollcall.messages
  referencing new table as new_rows for each statement execute function rollcall_internal.enqueue_messages();

-- Definer: only the server writes the queue.
create function rollcall_internal.enqueue_edited_message() returns trigger
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into rollcall_internal.messages_to_learn (user_id, message_id)
  select new.user_id, new.id
  where not exists (
    select from rollcall_internal.messages_to_learn q where q.user_id = new.user_id offset 10000 limit 1);
  return null;
end
$$;
comment on function rollcall_internal.enqueue_edited_message is
  'Trigger function: queues an edited message, so that what was learned from its old text is replaced.';

create trigger enqueue_edited_message after update of content on rollcall.messages
  for each row when (old.content is distinct from new.content and new.role = 'user' and new.state = 'complete')
  execute function rollcall_internal.enqueue_edited_message();

-- What was said in a message whose fact is forgotten is not found by its words either.
-- Definer: called by the referencing trigger of any writer; deletes units of the same user and message only.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.forget_units() returns trigger
  language plpgsql volatile security definer
as $$
begin
  perform rollcall_internal.check_search_path();
  delete from rollcall.atomic_chat_units u using old_rows g
  where g.is_learned and u.message_id = g.message_id and u.user_id = g.user_id and u.is_learned;
  return null;
end
$$;
comment on function rollcall_internal.forget_units is
  'Trigger function: deletes the learned units of the messages of deleted memories.';

create trigger forget_units after delete on rollcall.memories
  referencing old table as old_rows for each statement execute function rollcall_internal.forget_units();

-- Users in turns: those whose id is greater than p_after. Up to eight messages of a user; after a failure one, so that
-- one message does not stop the others.
-- Definer: for the server only.
create function rollcall_internal.claim_messages(p_after uuid, p_users int)
  returns table (user_id uuid, lease uuid, attempts int, entries bigint[], messages uuid[])
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := p_after;
  v_turn rollcall_internal.learning_turns;
  v_claimed int := 0;
begin
  for v_step in 1 .. 200 loop
    select q.user_id into v_user from rollcall_internal.messages_to_learn q
    where q.user_id > v_user order by q.user_id limit 1;
    exit when not found or v_claimed >= p_users;
    insert into rollcall_internal.learning_turns as t (user_id) values (v_user) on conflict do nothing;
    update rollcall_internal.learning_turns t
    set lease = gen_random_uuid(), lease_expires_at = clock_timestamp() + interval '3 minutes',
      attempts = t.attempts + 1
    from (
      select x.user_id from rollcall_internal.learning_turns x
      where x.user_id = v_user and x.run_after <= clock_timestamp()
        and (x.lease is null or x.lease_expires_at < clock_timestamp())
      for update skip locked
    ) free
    where t.user_id = free.user_id
    returning t.* into v_turn;
    if found then
      v_claimed := v_claimed + 1;
      return query
        select v_user, v_turn.lease, v_turn.attempts, coalesce(array_agg(o.id order by o.id), '{}'),
          coalesce(array_agg(o.message_id order by o.id), '{}')
        from (
          select q.id, q.message_id from rollcall_internal.messages_to_learn q where q.user_id = v_user
          order by q.id limit case when v_turn.attempts > 1 then 1 else 8 end
        ) o;
    end if;
  end loop;
end
$$;
comment on function rollcall_internal.claim_messages is
  'Claims queued messages of some users, oldest first; a claim expires after three minutes.';

-- Those of the caller's messages that may be learned from, with what the caller and the model said just before, and
-- the memories that they may correct.
-- Invoker: see bundle_sources.
create function rollcall.learning_sources(p_messages uuid[]) returns jsonb
  language plpgsql stable security invoker
as $$
declare
  v_me constant uuid := auth.uid();
  v_text text;
begin
  select left(string_agg(left(m.content, 1000), ' '), 4000) into v_text
  from rollcall.messages m where m.id = any (p_messages) and m.user_id = v_me;
  return jsonb_build_object(
    'messages', coalesce((
      select jsonb_agg(jsonb_build_object('id', m.id, 'content', left(m.content, 20000), 'said_on', m.created_at::date,
        'before', (
          select coalesce(jsonb_agg(jsonb_build_object('role', b.role, 'content', left(b.content, 600))
            order by b.message_index), '[]')
          from (
            select * from rollcall.messages o
            where o.conversation_id = m.conversation_id and o.user_id = v_me and o.message_index < m.message_index
              and o.state in ('complete', 'partial')
            order by o.message_index desc limit 2
          ) b)) order by m.created_at, m.message_index)
      from rollcall.messages m
      where m.id = any (p_messages) and m.user_id = v_me and m.role = 'user' and m.state = 'complete'
        and not exists (
          select from rollcall.memory_settings s
          where s.user_id = v_me and (s.conversation_id is null or s.conversation_id = m.conversation_id)
            and not s.learns)), '[]'),
    'memories', coalesce((
      select jsonb_agg(jsonb_build_object('id', k.id, 'content', left(k.content, 500), 'since', k.valid_from::date)
        order by k.valid_from, k.id)
      from rollcall.memories k
      where k.user_id = v_me and k.is_active and not (k.message_id is not null and k.message_id = any (p_messages))
        and (k.id in (select w.id from rollcall.match_words('memory', v_text, 20) w)
          or k.id in (
            select n.id from rollcall.memories n where n.user_id = v_me and n.is_active
            order by n.importance desc, n.created_at desc limit 30))), '[]'));
end
$$;
comment on function rollcall.learning_sources is 'What the server needs to learn from some of the callers messages.';
grant execute on function rollcall.learning_sources to authenticated, service_role;

-- p_found: {"messages": [{"id", "units": [text]}], "memories": [{"message_id", "content", "category", "importance",
-- "replaces": [ids]}]}. Replaces what was learned from an earlier text of the messages. Of two facts the one that
-- was said later is valid. Without entries the claim remains, for facts that are found later. Waits at most 300 ms
-- for a lock and skips nothing: the caller tries again after `busy`. Locks conversations before messages, as
-- deleting a conversation does.
-- Returns stored, lost (the lease) or busy.
-- Definer: writes columns that users may only read; every row is checked to belong to p_user.
-- Over 60 lines: queue, units and memories are written under one lease.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.store_learned(p_user uuid, p_lease uuid, p_entries bigint[], p_messages uuid[],
  p_found jsonb) returns text
  language plpgsql volatile security definer set lock_timeout = '300ms'
as $$
declare
  v_messages uuid[];
  v_fact record;
  v_newer rollcall.memories;
  v_id uuid;
begin
  perform rollcall_internal.check_search_path();
  perform from rollcall_internal.learning_turns t
  where t.user_id = p_user and t.lease = p_lease and t.lease_expires_at > clock_timestamp() for update;
  if not found then
    return 'lost';
  end if;
  perform from rollcall.conversations c
  where c.id in (select m.conversation_id from rollcall.messages m where m.id = any (p_messages))
  order by c.id for key share;
  v_messages := array(
    select m.id from rollcall.messages m
    where m.id = any (p_messages) and m.user_id = p_user
      and rollcall_internal.learns_from(m.user_id, m.conversation_id)
    order by m.id for key share);

  delete from rollcall.atomic_chat_units u
  where u.message_id = any (v_messages) and u.user_id = p_user and u.is_learned;
  update rollcall.memories o set is_active = true, valid_until = null, superseded_by = null
  from rollcall.memories g
  where o.superseded_by = g.id and o.user_id = p_user
    and g.message_id = any (v_messages) and g.user_id = p_user and g.is_learned and not g.is_pinned;
  delete from rollcall.memories g
  where g.message_id = any (v_messages) and g.user_id = p_user and g.is_learned and not g.is_pinned;

  insert into rollcall.atomic_chat_units (user_id, conversation_id, message_id, notebook_id, content, is_learned,
    created_at)
  select p_user, m.conversation_id, m.id, rollcall_internal.notebook_of(p_user, m.conversation_id),
    left(t.text, 20000), true, m.created_at
  from jsonb_to_recordset(p_found -> 'messages') x (id uuid, units jsonb)
  join rollcall.messages m on m.id = x.id and m.id = any (v_messages)
  cross join lateral jsonb_array_elements_text(x.units) with ordinality t (text, n)
  order by m.created_at, m.message_index, t.n;

  for v_fact in
    select x.content, x.category, x.importance, x.replaces, m.id as message_id, m.conversation_id, m.created_at
    from jsonb_to_recordset(p_found -> 'memories')
      x (message_id uuid, content text, category text, importance real, replaces uuid[])
    join rollcall.messages m on m.id = x.message_id and m.id = any (v_messages)
    where not exists (
      select from rollcall.memories k
      where k.user_id = p_user and k.is_active and lower(k.content) = lower(x.content))
    order by m.created_at, m.message_index
  loop
    select * into v_newer from rollcall.memories o
    where o.id = any (v_fact.replaces) and o.user_id = p_user and o.is_active and o.valid_from > v_fact.created_at
    order by o.valid_from limit 1;
    insert into rollcall.memories (user_id, content, category, importance, is_active, is_learned, conversation_id,
      notebook_id, message_id, valid_from, valid_until, superseded_by)
    values (p_user, v_fact.content, v_fact.category, v_fact.importance, v_newer.id is null, true,
      v_fact.conversation_id, rollcall_internal.notebook_of(p_user, v_fact.conversation_id), v_fact.message_id,
      v_fact.created_at, v_newer.valid_from, v_newer.id)
    returning id into v_id;
    update rollcall.memories o set is_active = false, superseded_by = v_id, valid_until = v_fact.created_at
    where o.id = any (v_fact.replaces) and o.user_id = p_user and o.is_active and not o.is_pinned
      and o.valid_from <= v_fact.created_at;
  end loop;

  if p_entries <> '{}' then
    delete from rollcall_internal.messages_to_learn q where q.id = any (p_entries) and q.user_id = p_user;
    delete from rollcall_internal.learning_turns t where t.user_id = p_user;
  end if;
  return 'stored';
exception when lock_not_available or deadlock_detected then
  return 'busy';
end
$$;
comment on function rollcall_internal.store_learned is
  'Stores what was learned from messages and deletes their queue entries, once.';

-- p_drop: entries that are given up.
-- Definer: for the server only.
create function rollcall_internal.postpone_learning(p_user uuid, p_lease uuid, p_error text, p_wait interval,
  p_drop bigint[]) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  update rollcall_internal.learning_turns t
  set lease = null, lease_expires_at = null, error = left(p_error, 1000), run_after = clock_timestamp() + p_wait,
    attempts = case when p_drop = '{}' then t.attempts else 0 end
  where t.user_id = p_user and t.lease = p_lease;
  if found then
    delete from rollcall_internal.messages_to_learn q where q.id = any (p_drop) and q.user_id = p_user;
  end if;
end
$$;
comment on function rollcall_internal.postpone_learning is 'Releases a failed claim, to be tried again later.';

-- Search --------------------------------------------------------------------------------------------------------------

-- p_filters: kind (memory or unit), notebookId, conversationId, from, until. Filters apply to the best 500 matches of
-- each kind.
-- Invoker: see bundle_sources.
create function rollcall.search(p_text text, p_vector text, p_filters jsonb, p_limit int) returns table (found jsonb)
  language plpgsql stable security invoker rows 20
as $$
declare
  v_units uuid[];
  v_unit_scores real[];
  v_memories uuid[];
  v_memory_scores real[];
begin
  select array_agg(m.id), array_agg(m.score) into v_units, v_unit_scores
  from rollcall.match_words('unit', p_text, 500) m where coalesce(p_filters ->> 'kind', 'unit') = 'unit';
  select array_agg(m.id), array_agg(m.score) into v_memories, v_memory_scores
  from rollcall.match_words('memory', p_text, 500) m where coalesce(p_filters ->> 'kind', 'memory') = 'memory';
  if p_vector is not null and coalesce(p_filters ->> 'kind', 'unit') = 'unit' then
    select array_agg(m.id), array_agg(m.score) into v_units, v_unit_scores
    from rollcall.merge_embeddings('unit', v_units, v_unit_scores, p_vector, 0.35, 500) m;
  end if;
  if p_vector is not null and coalesce(p_filters ->> 'kind', 'memory') = 'memory' then
    select array_agg(m.id), array_agg(m.score) into v_memories, v_memory_scores
    from rollcall.merge_embeddings('memory', v_memories, v_memory_scores, p_vector, 0.40, 500) m;
  end if;
  return query
    select jsonb_build_object('kind', x.kind, 'id', x.id, 'content', x.content, 'score', x.score,
      'conversationId', x.conversation_id, 'messageId', x.message_id, 'notebookId', x.notebook_id,
      'createdAt', x.created_at)
    from (
      select 'unit' as kind, u.id, u.content, s.score, u.conversation_id, u.message_id, u.notebook_id, u.created_at
      from unnest(v_units, v_unit_scores) s (id, score)
      cross join lateral (
        select * from rollcall.atomic_chat_units o where o.id = s.id and o.state = 'active' offset 0) u
      union all
      select 'memory', m.id, m.content, s.score, m.conversation_id, m.message_id, m.notebook_id, m.created_at
      from unnest(v_memories, v_memory_scores) s (id, score)
      cross join lateral (select * from rollcall.memories o where o.id = s.id and o.is_active offset 0) m
    ) x
    where (p_filters -> 'notebookId' is null or x.notebook_id = (p_filters ->> 'notebookId')::uuid)
      and (p_filters -> 'conversationId' is null or x.conversation_id = (p_filters ->> 'conversationId')::uuid)
      and (p_filters -> 'from' is null or x.created_at >= (p_filters ->> 'from')::timestamptz)
      and (p_filters -> 'until' is null or x.created_at < (p_filters ->> 'until')::timestamptz)
    order by x.score desc, x.created_at desc, x.id
    limit p_limit;
end
$$;
comment on function rollcall.search is 'The callers memories and units that match a text, best first.';
grant execute on function rollcall.search to authenticated, service_role;

-- Usage of models -----------------------------------------------------------------------------------------------------

create table rollcall.model_usage (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  purpose text not null,
  provider text not null,
  model text not null,
  prompt_tokens bigint not null,
  completion_tokens bigint not null,
  cost numeric,
  created_at timestamptz not null default now()
);
comment on table rollcall.model_usage is 'Calls to models with their tokens; kept for 400 days.';
comment on column rollcall.model_usage.purpose is 'chat, summary, roll_up or memory.';
comment on column rollcall.model_usage.cost is 'By the prices in LLM_PRICES; null for a model without a price.';
create index model_usage_user_id on rollcall.model_usage (user_id, created_at desc);
create index model_usage_created_at on rollcall.model_usage (created_at);
alter table rollcall.model_usage enable row level security;
-- Only the server writes it.
create policy "own usage" on rollcall.model_usage for select to authenticated using (user_id = (select auth.uid()));
create policy "service_role has full access" on rollcall.model_usage
  for all to service_role using (true) with check (true);
revoke all on rollcall.model_usage from anon, authenticated, service_role;
grant select on rollcall.model_usage to authenticated;
grant all on rollcall.model_usage to service_role;
insert into rollcall.personal_data (relation, column_name, exported, erase_order, reason) values
  ('rollcall.model_usage', 'user_id', true, 85, null);

-- Definer: for the server only.
create function rollcall_internal.record_model_usage(p_user uuid, p_purpose text, p_provider text, p_model text,
  p_prompt bigint, p_completion bigint, p_cost numeric) returns void
  language sql volatile security definer set search_path = ''
as $$
  insert into rollcall.model_usage (user_id, purpose, provider, model, prompt_tokens, completion_tokens, cost)
  values (p_user, p_purpose, p_provider, p_model, p_prompt, p_completion, p_cost)
$$;
comment on function rollcall_internal.record_model_usage is 'Records one call to a model.';

-- A day begins at midnight UTC.
-- Definer: for the server only.
create function rollcall_internal.tokens_used_today(p_user uuid) returns bigint
  language sql stable security definer set search_path = ''
as $$
  select coalesce(sum(u.prompt_tokens + u.completion_tokens), 0)::bigint from rollcall.model_usage u
  where u.user_id = p_user and u.created_at >= date_trunc('day', now(), 'UTC')
$$;
comment on function rollcall_internal.tokens_used_today is 'Tokens that models used for a user since midnight UTC.';

-- schemas/99_finish.sql ----------------------------------------------------------------------------------------------

-- Rights of functions, and what depends on everything before: event triggers and recorded state.

-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot change that.
revoke execute on all functions in schema rollcall from public;
revoke execute on all functions in schema rollcall_internal from public;

-- Without the right to create event triggers, servers compare fingerprints of the policies instead.
do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'rollcall_policy_watch') then
    create event trigger rollcall_policy_watch on ddl_command_end execute function rollcall_internal.on_ddl();
  end if;
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
  perform rollcall.watch_authorization_sources(), rollcall.watch_visibility_sources();
  perform rollcall_internal.record_triggers();
end
$$;

insert into rollcall_internal.context_access_version (version) values (rollcall.context_access_version());

-- The table of Supabase Auth is changed only on request; see rollcall.watch_accounts.
do $$
begin
  if exists (select from rollcall_internal.installed_objects o where o.name = 'auth.users') then
    perform rollcall.watch_accounts('auth.users');
  end if;
end
$$;

-- Records itself, whichever tool applies it.
insert into rollcall.schema_migrations (version, name) values ('20261128000000', 'rollcall');
