-- A small demo: six people who know each other in every way that visibility has. Through the ordinary tables, so the
-- faces follow. May run again: what is there stays as it is.
--
--   alice   knows bob, carol and frank; leads the team; on frank's visibility list
--   bob     knows alice; in the team; at lunch
--   carol   knows alice; in the team, and visible to the team only
--   dave    visible to everyone; talks with alice and bob; blocked by erin
--   erin    has asked bob, who has not answered; has blocked dave
--   frank   knows alice and bob; invisible, except to alice

insert into auth.users (id, email, aud, role, raw_user_meta_data)
select
  ('a0000000-0000-4000-8000-00000000000' || person.n)::uuid, person.name || '@example.test', 'authenticated', 'authenticated',
  jsonb_build_object('name', person.name)
from (values (1, 'alice'), (2, 'bob'), (3, 'carol'), (4, 'dave'), (5, 'erin'), (6, 'frank')) as person (n, name)
on conflict do nothing;

insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000002', now()),
  ('a0000000-0000-4000-8000-000000000003', 'a0000000-0000-4000-8000-000000000001', now()),
  ('a0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000006', now()),
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000006', now()),
  ('a0000000-0000-4000-8000-000000000005', 'a0000000-0000-4000-8000-000000000002', null)
on conflict do nothing;

insert into rollcall.blocks (blocker_id, blocked_id) values
  ('a0000000-0000-4000-8000-000000000005', 'a0000000-0000-4000-8000-000000000004')
on conflict do nothing;

insert into rollcall.teams (id, name, owner_id) values
  ('b0000000-0000-4000-8000-000000000001', 'Lighthouse', 'a0000000-0000-4000-8000-000000000001')
on conflict do nothing;
insert into rollcall.team_members (team_id, user_id) values
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001'),
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000002'),
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000003')
on conflict do nothing;

insert into rollcall.conversations (id, title, created_by) values
  ('c0000000-0000-4000-8000-000000000001', 'Harbour', 'a0000000-0000-4000-8000-000000000001')
on conflict do nothing;
insert into rollcall.conversation_participants (conversation_id, user_id) values
  ('c0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001'),
  ('c0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000002'),
  ('c0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000004')
on conflict do nothing;

insert into rollcall.presence_settings (user_id, visibility, show_last_seen) values
  ('a0000000-0000-4000-8000-000000000003', 'team', true),
  ('a0000000-0000-4000-8000-000000000004', 'everyone', true),
  ('a0000000-0000-4000-8000-000000000005', 'contacts', false)
on conflict do nothing;

insert into rollcall.presence_visibility_list (user_id, viewer_id) values
  ('a0000000-0000-4000-8000-000000000006', 'a0000000-0000-4000-8000-000000000001')
on conflict do nothing;

-- Everybody was here a while ago; whoever opens a socket is online. A device on heartbeats that sends none is swept.
insert into rollcall.presence_devices (user_id, device_id, device_name, device_type, platform, status, last_heartbeat_at, last_active_at)
select
  ('a0000000-0000-4000-8000-00000000000' || was.n)::uuid, 'phone', was.device_name, 'mobile', was.platform, 'offline',
  now() - was.ago, now() - was.ago
from (values
  (1, 'Alice''s phone', 'ios', interval '4 minutes'), (2, 'Bob''s phone', 'android', interval '20 minutes'),
  (3, 'Carol''s phone', 'ios', interval '3 hours'), (4, 'Dave''s phone', 'android', interval '1 minute'),
  (5, 'Erin''s phone', 'ios', interval '2 days'), (6, 'Frank''s phone', 'android', interval '5 hours')
) as was (n, device_name, platform, ago)
on conflict do nothing;

insert into rollcall.presence_choices (user_id, chosen, custom_status) values
  ('a0000000-0000-4000-8000-000000000001', null, 'Keeping the light on'),
  ('a0000000-0000-4000-8000-000000000002', 'busy', 'At lunch'),
  ('a0000000-0000-4000-8000-000000000004', null, 'Out at sea'),
  ('a0000000-0000-4000-8000-000000000006', 'invisible', 'Only for Alice')
on conflict do nothing;

-- What is known about Alice.
insert into rollcall.notebooks (id, user_id, title) values
  ('d0000000-0000-4000-8000-000000000004', 'a0000000-0000-4000-8000-000000000001', 'Harbour')
on conflict do nothing;
insert into rollcall.memories (id, user_id, content, category, importance) values
  ('d0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'Is a harbour pilot.', 'identity', 0.9)
on conflict do nothing;
insert into rollcall.custom_instructions (id, user_id, content) values
  ('d0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000001', 'Answer briefly.')
on conflict do nothing;
insert into rollcall.personas (id, user_id, name) values
  ('d0000000-0000-4000-8000-000000000003', 'a0000000-0000-4000-8000-000000000001', 'Pilot')
on conflict do nothing;
insert into rollcall.atomic_chat_units (id, user_id, content) values
  ('d0000000-0000-4000-8000-000000000005', 'a0000000-0000-4000-8000-000000000001', 'The tide turns at six.')
on conflict do nothing;
insert into rollcall.topic_profiles (id, user_id, slug, label) values
  ('d0000000-0000-4000-8000-000000000006', 'a0000000-0000-4000-8000-000000000001', 'tides', 'Tides')
on conflict do nothing;
insert into rollcall.entity_profiles (id, user_id, slug, name, entity_type) values
  ('d0000000-0000-4000-8000-000000000007', 'a0000000-0000-4000-8000-000000000001', 'mara', 'Mara', 'person')
on conflict do nothing;
insert into rollcall.messages (id, conversation_id, user_id, content) values
  ('d0000000-0000-4000-8000-000000000008', 'c0000000-0000-4000-8000-000000000001',
    'a0000000-0000-4000-8000-000000000001', 'When does the tide turn?')
on conflict do nothing;
