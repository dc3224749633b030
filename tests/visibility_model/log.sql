-- The commit log of the test: every change of presence and visibility, in exact commit order. The triggers run when a
-- transaction commits, and take a lock that is held until its end before they assign a number. So numbers follow commits,
-- and transactions overlap until they commit.
create table public.commit_log (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  source text not null,
  old_row jsonb,
  new_row jsonb
);

create function public.note_commit() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(4711);
  insert into public.commit_log (source, old_row, new_row)
  values (
    tg_table_name,
    case when tg_op <> 'INSERT' then to_jsonb(old) end,
    case when tg_op <> 'DELETE' then to_jsonb(new) end
  );
  return null;
end
$$;

-- Tables of an application, which provide all relations in the third test.
create table public.friendships (
  id bigint generated always as identity primary key, asker uuid not null, target uuid not null,
  state text not null default 'asked', seen_at timestamptz, unique (asker, target));
create index on public.friendships (target);
create table public.mutes (who text not null, whom text not null, primary key (who, whom));
create index on public.mutes (whom);
create table public.org_members (org bigint not null, member uuid not null, left_at timestamptz, primary key (org, member));
create index on public.org_members (member);
create table public.room_members (room text not null, member uuid not null, primary key (room, member));
create index on public.room_members (member);

-- The rule of the second test: only this custom table decides.
create table public.test_grants (
  viewer_id uuid not null,
  subject_id uuid not null,
  primary key (viewer_id, subject_id)
);
grant select on public.test_grants to authenticated;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['rollcall.user_presence', 'rollcall.contacts', 'rollcall.blocks',
    'rollcall.presence_visibility_list', 'rollcall.presence_settings', 'rollcall.team_members',
    'rollcall.conversation_participants', 'public.test_grants', 'public.friendships', 'public.mutes',
    'public.org_members', 'public.room_members']
  loop
    execute format('create constraint trigger zz_note_commit after insert or update or delete on %s
      deferrable initially deferred for each row execute function public.note_commit()', v_table);
  end loop;
end
$$;
