-- The tables of presence: what devices report, what users chose, and the faces that others see.
-- Invariant: every table has row-level security on; without a policy a row is nobody's but the owner's.
-- No foreign keys to auth.users: tokens may come from another issuer that keeps its accounts elsewhere.

create schema if not exists rollcall;
comment on schema rollcall is 'Rollcall''s functions and bookkeeping. What users read and write lies in public.';
grant usage on schema rollcall to anon, authenticated, service_role;
-- PostgreSQL lets PUBLIC call every new function, and default privileges of one schema cannot take that back, so each
-- migration that makes functions ends with a revoke. Triggers need no grant to fire.

create type public.presence_status as enum ('online', 'away', 'busy', 'dnd', 'invisible', 'offline');
create type public.presence_reach as enum ('online', 'away', 'offline');
create type public.presence_face as enum ('public', 'trusted');
create type public.presence_visibility as enum ('nobody', 'team', 'contacts', 'everyone');

-- Nodes --------------------------------------------------------------------------------------------------------

create table public.presence_nodes (
  id uuid primary key,
  started_at timestamptz not null default now(),
  renewed_at timestamptz not null default now(),
  lease_expires_at timestamptz not null
);
comment on table public.presence_nodes is
  'Server processes that hold sockets. One lease a node stands for the liveness of all its devices.';
-- No policies: only the server and service_role need to know of nodes.
alter table public.presence_nodes enable row level security;

-- Devices ------------------------------------------------------------------------------------------------------

create table public.presence_devices (
  user_id uuid not null,
  device_id text not null constraint presence_devices_device_id_length check (char_length(device_id) between 1 and 255),
  device_name text constraint presence_devices_device_name_length check (char_length(device_name) <= 255),
  device_type text constraint presence_devices_device_type_length check (char_length(device_type) <= 64),
  platform text constraint presence_devices_platform_length check (char_length(platform) <= 64),
  app_version text constraint presence_devices_app_version_length check (char_length(app_version) <= 64),
  status public.presence_status not null default 'online'
    constraint presence_devices_status_is_of_a_device check (status in ('online', 'away', 'offline')),
  activity text constraint presence_devices_activity_length check (char_length(activity) <= 255),
  current_page text constraint presence_devices_current_page_length check (char_length(current_page) <= 2048),
  nodes uuid[] not null default '{}',
  session_started_at timestamptz not null default now(),
  last_heartbeat_at timestamptz not null default now(),
  last_active_at timestamptz not null default now(),
  idle_since timestamptz,
  signed_off_at timestamptz,
  live boolean not null generated always as (status <> 'offline') stored,
  constraint presence_devices_pkey primary key (user_id, device_id)
) with (fillfactor = 80); -- Room for heap-only updates: heartbeats touch no indexed column.
comment on table public.presence_devices is 'What each device of a user reports. A device is live unless it is offline.';
comment on column public.presence_devices.nodes is 'The nodes that hold a socket of this device; empty for one that lives on heartbeats.';
comment on column public.presence_devices.last_heartbeat_at is 'The last moment at which the device is known to have been live.';
comment on column public.presence_devices.signed_off_at is 'Set when the client itself said offline: a late heartbeat does not bring it back.';
comment on column public.presence_devices.live is 'Whether it is not offline.';
-- The sweep looks at live devices only; most rows of an old database are not. By `live` and not by `status`: an update
-- is heap-only as long as no column of an index, predicates included, changes its value, and online to away is frequent.
create index presence_devices_live on public.presence_devices (user_id) where live;
create index presence_devices_on_nodes on public.presence_devices (user_id) where nodes <> '{}';
alter table public.presence_devices enable row level security;

-- Choices ------------------------------------------------------------------------------------------------------

create table public.presence_choices (
  user_id uuid primary key,
  chosen public.presence_status
    constraint presence_choices_chosen_is_a_choice check (chosen in ('busy', 'dnd', 'invisible')),
  last_seen_when_hidden timestamptz,
  custom_status text constraint presence_choices_custom_status_length check (char_length(custom_status) <= 140),
  custom_status_expires_at timestamptz,
  updated_at timestamptz not null default now()
) with (fillfactor = 80);
comment on table public.presence_choices is 'What a user chose for all devices: busy, dnd or invisible, and the custom status.';
comment on column public.presence_choices.last_seen_when_hidden is 'What outsiders read as last_seen while the user is invisible.';
create index presence_choices_expiring on public.presence_choices (custom_status_expires_at)
  where custom_status_expires_at is not null;
alter table public.presence_choices enable row level security;

create table public.user_last_seen (
  user_id uuid primary key,
  last_seen timestamptz
) with (fillfactor = 80);
comment on table public.user_last_seen is
  'The last moment at which any device was live; of a live user, to the minute. '
  'Its row is also the lock that orders the changes of one user. Erasing a user: delete it after the devices.';
alter table public.user_last_seen enable row level security;

-- Settings -----------------------------------------------------------------------------------------------------

create table public.presence_settings (
  user_id uuid primary key,
  visibility public.presence_visibility not null default 'contacts',
  show_last_seen boolean not null default true,
  show_activity boolean not null default true,
  show_custom_status boolean not null default true,
  show_typing boolean not null default true,
  updated_at timestamptz not null default now()
);
comment on table public.presence_settings is 'Who may see a user, and which fields they share. No row means the defaults.';
alter table public.presence_settings enable row level security;

create table public.presence_visibility_list (
  user_id uuid not null,
  viewer_id uuid not null,
  created_at timestamptz not null default now(),
  constraint presence_visibility_list_pkey primary key (user_id, viewer_id),
  constraint presence_visibility_list_not_oneself check (user_id <> viewer_id)
);
comment on table public.presence_visibility_list is 'Who sees a user''s trusted face, also while the user is invisible.';
create index presence_visibility_list_viewer_id on public.presence_visibility_list (viewer_id);
alter table public.presence_visibility_list enable row level security;

-- Faces --------------------------------------------------------------------------------------------------------

-- Orders the states of a face: taken while the user is locked, so a later state has a higher number.
create sequence rollcall.presence_version;

create table public.user_presence (
  user_id uuid not null,
  face public.presence_face not null,
  status public.presence_status not null,
  reach public.presence_reach not null,
  last_seen timestamptz,
  custom_status text,
  activity text,
  current_page text,
  idle_since timestamptz,
  version bigint not null default nextval('rollcall.presence_version'),
  constraint user_presence_pkey primary key (user_id, face)
) with (fillfactor = 80);
comment on table public.user_presence is
  'Two faces of each user. Policies give a viewer at most one row of a user, so what must be hidden is not in that row. '
  'Derived: change presence_devices, presence_choices or presence_settings instead, or call rollcall.set_status().';
comment on column public.user_presence.status is 'The full value: online, away, busy, dnd, invisible or offline.';
comment on column public.user_presence.reach is
  'The same in three words: busy and dnd read online, and invisible reads what the devices say.';
comment on column public.user_presence.version is 'Rises with every state of the row.';
alter table public.user_presence enable row level security;

do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
    alter publication supabase_realtime add table public.user_presence;
  end if;
end
$$;
