-- Module: channels
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
