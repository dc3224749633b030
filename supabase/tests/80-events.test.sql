-- Events, webhooks and sessions in SQL: what is recorded, in which order it is read, and who delivers.
begin;
select no_plan();
select tests.as_owner();

-- Nothing is recorded while nobody asks.
select tests.says(tests.u(1), 'online');
select is_empty($$ select from rollcall_internal.event_queue $$, 'without a webhook no event is written');
select is_empty($$ select from rollcall.presence_sessions $$, 'nor a session');

insert into rollcall.webhooks (id, url, events) values
  (tests.node(1), 'https://one.example/', '{user.online,user.offline,user.status}'),
  (tests.node(2), 'https://two.example/', '{channel.occupied,channel.vacated,member.joined,member.left}');
select results_eq($$ select records_presence, records_channels from rollcall.event_settings $$, $$ values (true, true) $$,
  'webhooks switch recording on');
select matches(w.secret, '^whsec_.{43}=$', 'a new webhook has a secret') from rollcall.webhooks w limit 1;
select throws_ok($$ insert into rollcall.webhooks (url) values ('ftp://x') $$, '23514', null, 'a URL is http or https');
select throws_ok($$ insert into rollcall.webhooks (url, events) values ('https://x', '{user.born}') $$, '23514', null, 'events are known');
select throws_ok($$ insert into rollcall.webhooks (url, secret) values ('https://x', 'whsec_short') $$, '23514', null, 'a secret has its form');
select throws_ok($$ insert into rollcall.webhooks (url, filter) values ('https://x', '{"users": []}') $$, '23514', null, 'a filter has its keys');
select throws_ok($$ insert into rollcall.webhooks (url, filter) values ('https://x', '{"topics": [1]}') $$, '23514', null, 'and texts');

-- Presence events, in the order of the changes.
select tests.says(tests.u(1), 'busy');
select tests.says(tests.u(1), 'busy');
select tests.says(tests.u(1), 'invisible');
select tests.says(tests.u(2), 'online');
select tests.says(tests.u(1), 'offline');
select ok(rollcall_internal.publish_events() > 0, 'events are published');
select results_eq(
  $$ select type, user_id, data ->> 'status', data ->> 'previous_status' from rollcall.events_after(0) $$,
  $$ values ('user.status', tests.u(1), 'busy', 'online'), ('user.status', tests.u(1), 'invisible', 'busy'),
     ('user.online', tests.u(2), 'online', 'offline'), ('user.offline', tests.u(1), 'offline', 'invisible') $$,
  'each change of the trusted face is one event');
select is_empty($$ select from rollcall_internal.event_queue $$, 'the queue is empty afterwards');
select results_eq(
  $$ select e.type from rollcall.events_after((select min(cursor) from rollcall.events), 1) e $$, array['user.status'],
  'a cursor continues, within the limit');

-- Filters.
select ok(rollcall_internal.passes_filter('{}', tests.u(1), 'a'), 'no filter passes all');
select results_eq($$ select rollcall_internal.passes_filter(f::jsonb, tests.u(1), t) from (values
    ('{"topics": ["room:*"]}', 'room:1'), ('{"topics": ["room:*"]}', 'hall'), ('{"topics": ["hall"]}', 'hall'),
    ('{"topics": ["hall"]}', null), ('{"user_ids": []}', 'hall'),
    ('{"user_ids": ["a0000000-0000-4000-8000-000000000001"]}', 'hall')) as v (f, t) $$,
  $$ values (true), (false), (true), (true), (false), (true) $$, 'filters select topics and users');

-- Members of channels, as rows say.
insert into rollcall.presence_nodes (id, lease_expires_at) values
  (tests.node(8), now() + interval '1 hour'), (tests.node(9), now() + interval '1 hour');
create function pg_temp.note(p_node uuid, p_channel bigint, p_key text) returns void language sql
as $$
  select rollcall_internal.write_channel_presence(p_node, '{}', array[p_channel], array['room'], array[true], array[p_key],
    array[gen_random_uuid()::text], array['{}'], array[tests.u(1)], array[now()], array[now()], false)
$$;
create function pg_temp.told() returns text[] language sql as $$
  select rollcall_internal.publish_events();
  select array(select e.type || coalesce(':' || (e.data ->> 'key'), '') from rollcall.events e where e.topic is not null order by e.cursor);
$$;
select pg_temp.note(tests.node(8), 1, 'a');
select pg_temp.note(tests.node(9), 1, 'a');
select pg_temp.note(tests.node(9), 2, 'b');
select is(pg_temp.told(), '{channel.occupied,member.joined:a,member.joined:b}', 'two nodes tell once');
select is(pg_temp.told(), '{channel.occupied,member.joined:a,member.joined:b}', 'and nothing again');
delete from rollcall.presence_nodes where id = tests.node(9);
select is((pg_temp.told())[4:], '{member.left:b}', 'a key leaves with its last row, also when its node ends');
truncate rollcall_internal.channel_presence;
select is((pg_temp.told())[5:], '{}', 'rows that vanished without a trigger are noticed');
select rollcall_internal.publish_events(true);
select is((pg_temp.told())[5:], '{member.left:a,channel.vacated}', 'by comparing all');

-- Deliveries: one node at a time, the same batch again, then the next.
create temp table claim on commit drop as
  select * from rollcall_internal.claim_webhooks(tests.node(8), interval '1 minute', 10);
select results_eq($$ select webhook_id, event_count, attempt from claim order by webhook_id $$,
  $$ values (tests.node(1), 4::bigint, 1), (tests.node(2), 6::bigint, 1) $$, 'each webhook gets its events');
select is_empty($$ select * from rollcall_internal.claim_webhooks(tests.node(8), interval '1 minute', 10) $$, 'claimed once');
update rollcall.webhooks set enabled = false where id = tests.node(2);
update rollcall.presence_nodes set lease_expires_at = now() - interval '1 s' where id = tests.node(8);
insert into rollcall.presence_nodes (id, lease_expires_at) values (tests.node(7), now() + interval '1 hour');
select results_eq($$ select webhook_id, message_id from rollcall_internal.claim_webhooks(tests.node(7), interval '1 minute', 1) $$,
  $$ select webhook_id, message_id from claim where webhook_id = tests.node(1) $$, 'again when the node is gone, with the same ID');
select ok(not rollcall_internal.finish_webhook(tests.node(1), 1, 'delivered', 200, null, '0', 3), 'whose lease no longer counts');
select ok(rollcall_internal.finish_webhook(tests.node(1), 2, 'failed', 500, 'status 500', '0', 2), 'a failure is recorded');
select tests.says(tests.u(2), 'busy');
select rollcall_internal.publish_events();
select results_eq($$ select event_count, attempt from rollcall_internal.claim_webhooks(tests.node(7), '1 minute', 1) $$,
  $$ values (4::bigint, 2) $$, 'a retry has the same events');
select ok(rollcall_internal.finish_webhook(tests.node(1), 3, 'failed', 500, 'status 500', '0', 2), 'the last attempt fails');
select results_eq($$ select type, attempts, last_status from rollcall.webhook_dead_letters order by event_id limit 1 $$,
  $$ values ('user.status', 2, 500) $$, 'and leaves dead letters');
select is((select dead_letters from rollcall.webhook_status() where webhook_id = tests.node(1)), 4::bigint, 'which are counted');
select results_eq($$ select event_count, attempt from rollcall_internal.claim_webhooks(tests.node(7), '1 minute', 1) $$,
  $$ values (1::bigint, 1) $$, 'the next batch follows');
select rollcall_internal.finish_webhook(tests.node(1), 4, 'delivered', 200, null, '0', 2);
select is(rollcall.resend_dead_letters(tests.node(1)), 4::bigint, 'dead letters are sent again');
select results_eq($$ select event_count from rollcall_internal.claim_webhooks(tests.node(7), '1 minute', 1) $$,
  array[4::bigint], 'as a batch');
select rollcall_internal.finish_webhook(tests.node(1), 5, 'delivered', 200, null, '0', 2);
select is_empty($$ select from rollcall.webhook_dead_letters $$, 'and are gone when they arrived');
update rollcall.webhooks set filter = '{"user_ids": []}' where id = tests.node(1);
select tests.says(tests.u(2), 'dnd');
select rollcall_internal.publish_events();
select is_empty($$ select * from rollcall_internal.claim_webhooks(tests.node(7), '1 minute', 1) $$, 'what does not pass the filter is skipped');
select is((select pending from rollcall.webhook_status() where webhook_id = tests.node(1)), 0::bigint, 'and does not wait');

-- Bounds.
update rollcall.event_settings set max_events = 1000;
insert into rollcall_internal.event_queue (type, user_id, data, occurred_at)
  select 'user.online', tests.u(3), '{}', now() from generate_series(1, 1500);
select rollcall_internal.publish_events();
select ok((select count(*) <= 1000 from rollcall.events), 'the count is bounded');
update rollcall.event_settings set max_events = 100000, max_bytes = 1048576;
insert into rollcall_internal.event_queue (type, user_id, data, occurred_at)
  select 'user.online', tests.u(3), jsonb_build_object('x', repeat('x', 10000)), now() from generate_series(1, 300);
select rollcall_internal.publish_events();
select cmp_ok((select sum(octet_length(data::text)) from rollcall.events), '<=', 1048576::bigint + 10100, 'the bytes are bounded, to one event');
update rollcall.webhooks set filter = '{}' where id = tests.node(1);
update rollcall_internal.webhook_deliveries set position = 0;
update rollcall_internal.events set occurred_at = now() - interval '4 days';
select rollcall_internal.publish_events();
select is_empty($$ select from rollcall.events $$, 'the age is bounded');
select ok((select dropped > 0 from rollcall.webhook_status() where webhook_id = tests.node(1)), 'what a webhook missed is counted');

-- Sessions, by face.
update rollcall.event_settings set presence_sessions = true;
select results_eq($$ select user_id, face::text from rollcall.presence_sessions where ended_at is null order by 1, 2 $$,
  $$ select user_id, face::text from rollcall.user_presence where reach <> 'offline' order by 1, 2 $$,
  'who is online has a session at once');
delete from rollcall.presence_sessions;
insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values (tests.u(4), tests.u(5), now()), (tests.u(4), tests.u(6), now());
select tests.says(tests.u(4), 'online');
select tests.says(tests.u(4), 'invisible');
select results_eq($$ select face::text, ended_at is null from rollcall.presence_sessions where user_id = tests.u(4) order by 1 $$,
  $$ values ('public', false), ('trusted', true) $$, 'going invisible ends the public session only');
create function pg_temp.seen(p_viewer int) returns text[] language plpgsql as $$
begin
  perform tests.as_user(tests.u(p_viewer));
  return array(select s.face::text || case when s.ended_at is null then '…' else '' end
    from rollcall.presence_sessions s where s.user_id = tests.u(4) order by s.started_at, s.face);
end
$$;
select is(pg_temp.seen(5), '{public}', 'a contact sees nothing of the time as invisible');
select is(pg_temp.seen(4), '{trusted…}', 'the user sees it');
select is(pg_temp.seen(7), '{}', 'a stranger sees nothing');
select tests.as_owner();
select tests.says(tests.u(4), 'offline');
select is(pg_temp.seen(5), '{public}', 'also after it has ended');
select tests.as_owner();
insert into rollcall.blocks (blocker_id, blocked_id) values (tests.u(4), tests.u(6));
select is(pg_temp.seen(6), '{}', 'nor does who is blocked');
select tests.as_owner();
insert into rollcall.presence_settings (user_id, show_last_seen) values (tests.u(4), false);
select is(pg_temp.seen(5), '{}', 'without last_seen there is no history');
select is(pg_temp.seen(4), '{trusted}', 'except for the user');
select is(jsonb_array_length(rollcall.export_mine() -> 'presence_sessions'), 1, 'whose export has it');
select tests.as_owner();
select ok((rollcall.forget(tests.u(4)) ->> 'presence_sessions')::int = 2, 'erasure deletes both faces');
select is_empty($$ select user_id from rollcall.presence_sessions where user_id = tests.u(4)
  union all select user_id from rollcall_internal.event_queue where user_id = tests.u(4)
  union all select user_id from rollcall_internal.events where user_id = tests.u(4) $$, 'and the events of the user');
update rollcall.presence_sessions set started_at = now() - interval '1 year', ended_at = now() - interval '100 days'
  where user_id = tests.u(2) and face = 'public';
update rollcall.retention set applied_at = null;
select rollcall.sweep(interval '1 hour', interval '1 hour');
select is_empty($$ select from rollcall.presence_sessions where ended_at < now() - interval '90 days' $$, 'retention ends sessions');
update rollcall.event_settings set presence_sessions = false;
select is_empty($$ select from rollcall.presence_sessions where ended_at is null $$, 'no session stays open without recording');

delete from rollcall.webhooks;
select results_eq($$ select records_presence, records_channels from rollcall.event_settings $$, $$ values (false, false) $$,
  'recording ends with the last webhook');
select is_empty($$ select from rollcall_internal.event_members $$, 'and what was told is forgotten');
select * from finish();
rollback;
