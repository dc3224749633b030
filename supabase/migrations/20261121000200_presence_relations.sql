-- The tables that say how people are related: contacts, blocks, teams, conversations, typing.
-- Invariant: a pair of users is at most one contact, whoever asked.

create table public.contacts (
  requester_id uuid not null,
  addressee_id uuid not null,
  accepted_at timestamptz,
  created_at timestamptz not null default now(),
  constraint contacts_pkey primary key (requester_id, addressee_id),
  constraint contacts_not_oneself check (requester_id <> addressee_id)
);
comment on table public.contacts is 'Asked for by one user, accepted by the other; counts once accepted_at is set.';
create index contacts_addressee_id on public.contacts (addressee_id);
create unique index contacts_pair on public.contacts (least(requester_id, addressee_id), greatest(requester_id, addressee_id));
alter table public.contacts enable row level security;

create table public.blocks (
  blocker_id uuid not null,
  blocked_id uuid not null,
  created_at timestamptz not null default now(),
  constraint blocks_pkey primary key (blocker_id, blocked_id),
  constraint blocks_not_oneself check (blocker_id <> blocked_id)
);
comment on table public.blocks is 'A block in either direction hides both from each other, whatever else is allowed.';
create index blocks_blocked_id on public.blocks (blocked_id);
alter table public.blocks enable row level security;

create table public.teams (
  id uuid primary key default gen_random_uuid(),
  name text not null constraint teams_name_length check (char_length(name) between 1 and 255),
  owner_id uuid not null,
  created_at timestamptz not null default now()
);
comment on table public.teams is 'Groups whose members see each other when their visibility is team.';
create index teams_owner_id on public.teams (owner_id);
alter table public.teams enable row level security;

create table public.team_members (
  team_id uuid not null references public.teams (id) on delete cascade,
  user_id uuid not null,
  accepted_at timestamptz default now(),
  created_at timestamptz not null default now(),
  constraint team_members_pkey primary key (team_id, user_id)
);
comment on table public.team_members is
  'Who is in which team. Counts once accepted_at is set: owners can invite, or anybody could make a team of strangers and see them.';
create index team_members_user_id on public.team_members (user_id);
alter table public.team_members enable row level security;

create table public.conversations (
  id uuid primary key default gen_random_uuid(),
  title text constraint conversations_title_length check (char_length(title) <= 255),
  created_by uuid not null,
  created_at timestamptz not null default now()
);
comment on table public.conversations is 'Where people type.';
create index conversations_created_by on public.conversations (created_by);
alter table public.conversations enable row level security;

create table public.conversation_participants (
  conversation_id uuid not null references public.conversations (id) on delete cascade,
  user_id uuid not null,
  joined_at timestamptz not null default now(),
  constraint conversation_participants_pkey primary key (conversation_id, user_id)
);
comment on table public.conversation_participants is 'Who takes part in which conversation.';
create index conversation_participants_user_id on public.conversation_participants (user_id);
alter table public.conversation_participants enable row level security;

-- Unlogged: after a crash nobody types.
create unlogged table public.typing_indicators (
  conversation_id uuid not null,
  user_id uuid not null,
  updated_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '5 seconds',
  constraint typing_indicators_pkey primary key (conversation_id, user_id)
) with (fillfactor = 50);
comment on table public.typing_indicators is 'Who types where, right now. A row lasts five seconds unless refreshed.';
create index typing_indicators_user_id on public.typing_indicators (user_id);
alter table public.typing_indicators enable row level security;

-- Typing ends by itself. API roles may say that they type, not for how long.
-- Invoker: touches only the row at hand.
create function rollcall.stamp_typing() returns trigger
  language plpgsql security invoker set search_path = ''
as $$
begin
  new.updated_at := least(new.updated_at, clock_timestamp());
  new.expires_at := least(new.expires_at, clock_timestamp() + interval '5 seconds');
  return new;
end
$$;
create trigger stamp_typing before insert or update on public.typing_indicators
  for each row execute function rollcall.stamp_typing();

revoke execute on all functions in schema rollcall from public;
