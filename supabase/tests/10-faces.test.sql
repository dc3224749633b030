-- The rules by which devices, choice and settings become the two faces of a user.
begin;
select plan(56);
select tests.as_owner();

-- Aggregate ----------------------------------------------------------------------------------------------------
select is(tests.face(tests.u(1), 'trusted'), null, 'a user who was never seen has no face');

select tests.says(tests.u(1), 'online');
select is(tests.face(tests.u(1), 'trusted'), 'online/online', 'one device online: online');
select is(tests.face(tests.u(1), 'public'), 'online/online', 'the public face says so too');

select tests.says(tests.u(1), 'away');
select is(tests.face(tests.u(1), 'public'), 'away/away', 'all live devices away: away');

select tests.says(tests.u(1), 'online', 'laptop');
select is(tests.face(tests.u(1), 'public'), 'online/online', 'any live device online: online');

select tests.says(tests.u(1), 'offline', 'laptop');
select is(tests.face(tests.u(1), 'public'), 'away/away', 'a device that is offline does not count');

select tests.says(tests.u(1), 'offline');
select is(tests.face(tests.u(1), 'public'), 'offline/offline', 'no live device: offline');

select tests.says(tests.u(1), 'busy');
select is(tests.face(tests.u(1), 'public'), 'busy/online', 'busy shows, and reads online in three words');
select tests.says(tests.u(1), 'dnd', 'laptop');
select is(tests.face(tests.u(1), 'public'), 'dnd/online', 'the choice holds across devices');
update rollcall.presence_devices set status = 'away' where user_id = tests.u(1);
select is(tests.face(tests.u(1), 'public'), 'dnd/online', 'dnd reads online also when every device is away');
select tests.says(tests.u(1), 'offline', 'phone'), tests.says(tests.u(1), 'offline', 'laptop');
select is(tests.face(tests.u(1), 'public'), 'offline/offline', 'a choice does not make anybody live');
select tests.write('connect', tests.u(1), 'phone', tests.node(1));
select is(tests.face(tests.u(1), 'public'), 'dnd/online', 'going offline keeps the choice');
select tests.says(tests.u(1), 'online');
select is(tests.face(tests.u(1), 'public'), 'online/online', 'online clears the choice');
select tests.says(tests.u(1), 'busy'), tests.says(tests.u(1), 'away');
select is(tests.face(tests.u(1), 'public'), 'away/away', 'away clears the choice');

-- Idle -----------------------------------------------------------------------------------------------------------
select tests.says(tests.u(2), 'online');
update rollcall.presence_devices set last_active_at = now() - interval '6 minutes' where user_id = tests.u(2);
select rollcall.sweep();
select is(tests.face(tests.u(2), 'public'), 'away/away', 'a device without activity goes away by itself');
select is((select idle_since from rollcall.user_presence where user_id = tests.u(2) and face = 'public'),
  date_trunc('milliseconds', now() - interval '6 minutes'), 'and says since when');
select tests.says(tests.u(2), 'away', 'laptop');
select is((select idle_since from rollcall.user_presence where user_id = tests.u(2) and face = 'public'), null,
  'a device that is away and not idle means that the user is not idle');
select tests.says(tests.u(2), 'offline', 'laptop');
insert into rollcall.presence_settings (user_id, show_last_seen) values (tests.u(2), false);
select is((select idle_since from rollcall.user_presence where user_id = tests.u(2) and face = 'public'), null,
  'who hides last_seen hides since when they are idle');
select isnt((select idle_since from rollcall.user_presence where user_id = tests.u(2) and face = 'trusted'), null,
  'but not from the trusted');
select tests.write('heartbeat', tests.u(2), 'phone', p_active => true);
select is(tests.face(tests.u(2), 'public'), 'online/online', 'the next activity brings it back');

-- Invisible --------------------------------------------------------------------------------------------------------
select tests.says(tests.u(3), 'online');
select pg_sleep(0.01);
create temp table went on commit drop as select clock_timestamp() as at;
grant select on went to public;
select tests.says(tests.u(3), 'invisible');
select is(tests.face(tests.u(3), 'public'), 'offline/offline', 'invisible reads offline to outsiders');
select is(tests.face(tests.u(3), 'trusted'), 'invisible/online', 'the trusted see the real state');
select ok(tests.last_seen(tests.u(3), 'public') between (select date_trunc('milliseconds', at) from went) and clock_timestamp(),
  'outsiders read last_seen as of the moment of going invisible');

create temp table before on commit drop as
  select * from rollcall.user_presence where user_id = tests.u(3) and face = 'public';
select pg_sleep(0.01);
select tests.write('status', tests.u(3), 'phone', p_status => 'invisible', p_set_custom => true, p_custom => 'hiding',
  p_activity => 'reading', p_page => '/secret');
select tests.says(tests.u(3), 'invisible', 'laptop');
select tests.write('connect', tests.u(3), 'tablet', tests.node(1)), tests.write('disconnect', tests.u(3), 'tablet', tests.node(1));
select tests.write('heartbeat', tests.u(3), 'phone', p_active => true);
update rollcall.presence_devices set last_active_at = now() - interval '6 minutes' where user_id = tests.u(3);
select rollcall.sweep();
select results_eq(
  'select * from rollcall.user_presence where user_id = tests.u(3) and face = ''public''', 'select * from before',
  'nothing that an invisible user does changes the public face, not even its version');
select results_eq(
  $$ select custom_status, activity, current_page from rollcall.user_presence where user_id = tests.u(3) and face = 'trusted' $$,
  $$ values ('hiding', 'reading', '/secret') $$, 'the trusted see all of it');
select tests.says(tests.u(3), 'offline'), tests.says(tests.u(3), 'offline', 'laptop');
select results_eq(
  'select * from rollcall.user_presence where user_id = tests.u(3) and face = ''public''', 'select * from before',
  'nor does going offline while invisible');
select is(tests.face(tests.u(3), 'trusted'), 'offline/offline', 'which the trusted see');
select tests.write('connect', tests.u(3), 'phone', tests.node(1));
select is(tests.face(tests.u(3), 'trusted') || ' ' || tests.face(tests.u(3), 'public'), 'invisible/online offline/offline',
  'who comes back is still invisible');
select tests.says(tests.u(3), 'online');
select is(tests.face(tests.u(3), 'public'), 'online/online', 'and is seen again when they say so');

-- Coming back as invisible must not show that somebody came.
select tests.says(tests.u(4), 'online'), tests.says(tests.u(4), 'offline');
update rollcall.presence_devices set last_heartbeat_at = now() - interval '3 days' where user_id = tests.u(4);
update rollcall.user_last_seen set last_seen = now() - interval '3 days' where user_id = tests.u(4);
select is(tests.last_seen(tests.u(4), 'public'), date_trunc('milliseconds', now() - interval '3 days'), '(last seen three days ago)');
select tests.says(tests.u(4), 'invisible');
select is(tests.last_seen(tests.u(4), 'public'), date_trunc('milliseconds', now() - interval '3 days'),
  'who comes online as invisible was, to outsiders, last seen before');
select is(tests.face(tests.u(4), 'trusted'), 'invisible/online', 'though the trusted see them');

select tests.says(tests.u(5), 'invisible');
select is(tests.face(tests.u(5), 'public'), null, 'who has never been seen and is invisible has no public face at all');
select is(tests.face(tests.u(5), 'trusted'), 'invisible/online', 'but a trusted one');
select tests.says(tests.u(5), 'online');
select is(tests.face(tests.u(5), 'public'), 'online/online', 'which comes with being seen');

-- last_seen ----------------------------------------------------------------------------------------------------
select tests.says(tests.u(6), 'online');
update rollcall.presence_devices set last_heartbeat_at = now() - interval '20 seconds' where user_id = tests.u(6);
delete from rollcall.presence_devices where user_id = tests.u(6);
select is(tests.face(tests.u(6), 'public'), 'offline/offline', 'a user without devices is offline');
select is(tests.last_seen(tests.u(6), 'public'), (select last_seen from rollcall.user_last_seen where user_id = tests.u(6)),
  'last_seen outlives the device');
select tests.write('connect', tests.u(6), 'phone', tests.node(1));
update rollcall.presence_devices set last_heartbeat_at = now() - interval '3 hours' where user_id = tests.u(6);
delete from rollcall.presence_devices where user_id = tests.u(6);
select ok(tests.last_seen(tests.u(6), 'public') > now() - interval '10 seconds',
  'a device with a socket was live until it was deleted');
select tests.says(tests.u(6), 'offline');
create temp table seen on commit drop as select tests.last_seen(tests.u(6), 'public') as at;
grant select on seen to public;
select pg_sleep(0.01), tests.says(tests.u(6), 'offline');
select is(tests.last_seen(tests.u(6), 'public'), (select at from seen), 'saying offline again is not being seen');
update rollcall.presence_devices set last_heartbeat_at = '2020-01-02Z' where user_id = tests.u(6);
update rollcall.user_last_seen set last_seen = '2020-01-01Z' where user_id = tests.u(6);
select is(tests.last_seen(tests.u(6), 'public'), '2020-01-02Z', 'the latest of what is known counts');
select tests.write('connect', tests.u(6), 'phone', tests.node(1));
update rollcall.presence_devices set last_heartbeat_at = now() - interval '3 hours' where user_id = tests.u(6);
truncate rollcall.presence_devices;
select is(tests.face(tests.u(6), 'public'), 'offline/offline', 'a truncate of devices reaches the faces');
select ok(tests.last_seen(tests.u(6), 'public') > now() - interval '10 seconds', 'and keeps last_seen');

-- Fields --------------------------------------------------------------------------------------------------------
select tests.write('status', tests.u(7), 'phone', p_status => 'online', p_set_custom => true, p_custom => 'at sea',
  p_activity => 'sailing', p_page => '/map');
prepare fields as select custom_status, activity, current_page, last_seen is not null
  from rollcall.user_presence where user_id = tests.u(7) and face = 'public';
select results_eq('fields', $$ values ('at sea', 'sailing', '/map', true) $$, 'by default every field is shared');
insert into rollcall.presence_settings (user_id, show_custom_status) values (tests.u(7), false);
select results_eq('fields', $$ values (null::text, 'sailing', '/map', true) $$, 'show_custom_status hides the custom status');
update rollcall.presence_settings set show_custom_status = true, show_activity = false where user_id = tests.u(7);
select results_eq('fields', $$ values ('at sea', null::text, null::text, true) $$, 'show_activity hides activity and page');
update rollcall.presence_settings set show_activity = true, show_last_seen = false where user_id = tests.u(7);
select results_eq('fields', $$ values ('at sea', 'sailing', '/map', false) $$, 'show_last_seen hides last_seen');
select is((select custom_status || activity || current_page || (last_seen is not null) from rollcall.user_presence
  where user_id = tests.u(7) and face = 'trusted'), 'at seasailing/maptrue', 'the trusted see all, whatever the switches say');
delete from rollcall.presence_settings where user_id = tests.u(7);
select results_eq('fields', $$ values ('at sea', 'sailing', '/map', true) $$, 'without settings the defaults hold again');
select tests.write('status', tests.u(7), 'laptop', p_status => 'online', p_activity => 'fishing');
select results_eq('fields', $$ values ('at sea', 'fishing', '/map', true) $$,
  'of several devices the one used last, each field from one that has it');
select tests.write('status', tests.u(7), 'laptop', p_status => 'online', p_activity => '');
select results_eq('fields', $$ values ('at sea', 'sailing', '/map', true) $$, 'an empty activity is cleared');
select tests.says(tests.u(7), 'offline'), tests.says(tests.u(7), 'offline', 'laptop');
select results_eq('fields', $$ values (null::text, null::text, null::text, true) $$,
  'who is offline shows nothing but last_seen');
update rollcall.presence_choices set custom_status_expires_at = clock_timestamp() - interval '1 second' where user_id = tests.u(7);
select is((select custom_status from rollcall.user_presence where user_id = tests.u(7) and face = 'trusted'), null,
  'a custom status past its time is not shown');

-- Noise ------------------------------------------------------------------------------------------------------------
select tests.says(tests.u(8), 'online');
create temp table quiet on commit drop as select * from rollcall.user_presence where user_id = tests.u(8);
select pg_sleep(0.01), tests.write('heartbeat', tests.u(8), 'phone', p_active => true), tests.says(tests.u(8), 'online');
select results_eq('select * from rollcall.user_presence where user_id = tests.u(8) order by face', 'select * from quiet order by face',
  'a heartbeat and a repeat write no face');
update rollcall.user_presence set status = 'away' where user_id = tests.u(8) and face = 'public';
select is(tests.face(tests.u(8), 'public'), 'away/away', 'where a DBA sets a face''s status, reach follows');
select cmp_ok(tests.version(tests.u(8), 'public'), '>', (select version from quiet where face = 'public'), 'and the version rises');

-- Forgetting -------------------------------------------------------------------------------------------------------
delete from rollcall.presence_devices where user_id = tests.u(8);
delete from rollcall.presence_choices where user_id = tests.u(8);
delete from rollcall.user_last_seen where user_id = tests.u(8);
select is((select count(*) from rollcall.user_presence where user_id = tests.u(8))
  + (select count(*) from rollcall.user_last_seen where user_id = tests.u(8)), 0::bigint, 'an erased user reads as never seen');

select * from finish();
rollback;
