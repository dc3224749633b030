-- All relations come from tables of the application, with IDs of four types.
alter table public.friendships enable row level security;
alter table public.room_members enable row level security;
select rollcall.use_table('contacts', 'public.friendships', user_column => 'asker', other_column => 'target',
  condition => $$state = 'friends'$$);
select rollcall.use_table('blocks', 'public.mutes', user_column => 'who', other_column => 'whom');
select rollcall.use_table('team_members', 'public.org_members', group_column => 'org', user_column => 'member',
  condition => 'left_at is null');
select rollcall.use_table('participants', 'public.room_members', group_column => 'room', user_column => 'member');
