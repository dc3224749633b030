-- Broadcasts from the database: the table, its partitions, the functions that send, and what they do as each role.
begin;
select plan(46);
select tests.as_owner();

-- The table ----------------------------------------------------------------------------------------------------------
select columns_are('realtime', 'messages', array['topic', 'extension', 'payload', 'event', 'private', 'updated_at',
  'inserted_at', 'id', 'binary_payload']);
select col_is_pk('realtime', 'messages', array['id', 'inserted_at'], 'its key holds the time, as partitions demand');
select ok((select relrowsecurity from pg_class where oid = 'realtime.messages'::regclass), 'row-level security is on');
select policies_are('realtime', 'messages', '{}'::name[], 'nobody may use a private channel before the DBA says so');
select is((select relkind from pg_class where oid = 'realtime.messages'::regclass), 'p', 'it is partitioned');
select is_empty(
  $$ select r, p from unnest(array['anon', 'authenticated', 'service_role']) r, unnest(array['select', 'insert', 'update']) p
     where not has_table_privilege(r, 'realtime.messages', p) $$, 'API roles select, insert and update');
select is_empty(
  $$ select r, p from unnest(array['anon', 'authenticated']) r, unnest(array['delete', 'truncate', 'trigger']) p
     where has_table_privilege(r, 'realtime.messages', p) $$, 'and no more');
select ok(exists (select from pg_publication_tables where pubname = 'supabase_realtime_messages_publication'),
  'a publication holds it');
select throws_ok($$ insert into realtime.messages (topic, extension, payload, binary_payload) values ('t', 'broadcast', '{}', '\x00') $$,
  '23514', null, 'a message is JSON or bytes');
select lives_ok($$ insert into realtime.messages (topic, extension) values ('t', 'presence') $$, 'a probe has neither');

-- Partitions ---------------------------------------------------------------------------------------------------------
create function pg_temp.partitions() returns text language sql as $$
  select string_agg((to_date(right(c.relname, 10), 'YYYY_MM_DD') - (now() at time zone 'utc')::date)::text, ',' order by c.relname)
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'realtime.messages'::regclass
$$;
create function pg_temp.day(n int) returns text language sql as $$
  select 'realtime.messages_' || to_char((now() at time zone 'utc')::date + n, 'YYYY_MM_DD')
$$;
select is(pg_temp.partitions(), '-1,0,1,2,3', 'yesterday to three days ahead have a partition');
select results_eq('select * from rollcall.maintain_message_partitions()', 'values (0, 0)', 'nothing is left to do');
do $$ begin execute 'drop table ' || pg_temp.day(0); execute 'drop table ' || pg_temp.day(3); end $$;
select results_eq('select * from rollcall.maintain_message_partitions()', 'values (2, 0)', 'missing ones are made');
do $$ begin execute format('alter table realtime.messages detach partition %s', pg_temp.day(1)); end $$;
select results_eq('select * from rollcall.maintain_message_partitions()', 'values (1, 0)', 'a detached one is attached again');
do $$ begin
  execute format('create table %s partition of realtime.messages for values from (%L) to (%L)', pg_temp.day(-4),
    (now() at time zone 'utc')::date - 4, (now() at time zone 'utc')::date - 3);
  execute format('create table %s partition of realtime.messages for values from (%L) to (%L)', pg_temp.day(-3),
    (now() at time zone 'utc')::date - 3, (now() at time zone 'utc')::date - 2);
end $$;
select results_eq('select * from rollcall.maintain_message_partitions()', 'values (0, 1)', 'one older than 72 hours as a whole goes');
select is(pg_temp.partitions(), '-3,-1,0,1,2,3', 'one that holds younger rows stays');
select results_eq($$ select * from rollcall.maintain_message_partitions('24 hours', 5) $$, 'values (2, 1)', 'both times can be had differently');
select is((select relowner::regrole::text from pg_class where oid = to_regclass(pg_temp.day(5))), 'supabase_realtime_admin',
  'a partition has its parent''s owner');
select ok((select relrowsecurity from pg_class where oid = to_regclass(pg_temp.day(5))), 'and row-level security of its own');
set local timezone = 'Pacific/Kiritimati';
select results_eq('select created from rollcall.maintain_message_partitions()', 'values (0)', 'days are those of UTC');
reset timezone;

-- Sending ------------------------------------------------------------------------------------------------------------
delete from realtime.messages;
select lives_ok($$ select realtime.send('{"a": 1}', 'ev', 'room:1') $$, 'the owner sends');
select results_eq($$ select topic, event, private, extension, payload ->> 'a', payload ->> 'id' = id::text from realtime.messages $$,
  $$ values ('room:1', 'ev', true, 'broadcast', '1', true) $$, 'as a private broadcast with the row''s id');
select is(realtime.topic(), 'room:1', 'and the transaction knows the channel');
delete from realtime.messages;
select realtime.send('{"id": "mine"}', 'ev', 'room:1', false);
select results_eq('select private, payload from realtime.messages', $$ values (false, '{"id": "mine"}'::jsonb) $$, 'an id of one''s own stays');
delete from realtime.messages;
select realtime.send_binary('\x00ff10', 'ev', 'room:1');
select results_eq('select private, payload, binary_payload from realtime.messages', $$ values (true, null::jsonb, '\x00ff10'::bytea) $$,
  'bytes are sent as they are');
delete from realtime.messages;
select lives_ok($$ select realtime.send('[1, 2]', 'ev', 'room:1') $$, 'an array is no payload, but no error either');
select lives_ok($$ select realtime.send(null, 'ev', 'room:1') $$, 'nor is nothing');
select lives_ok($$ select realtime.send_binary(null, 'ev', 'room:1') $$, 'nor no bytes');
select lives_ok($$ select realtime.send('{}', 'ev', null) $$, 'nor no channel');
select is_empty('select from realtime.messages', 'and none of it is sent');
do $$ begin execute 'drop table ' || pg_temp.day(0); end $$;
select lives_ok($$ select realtime.send('{}', 'ev', 'room:1') $$, 'a missing partition does not fail the sender');
select rollcall.maintain_message_partitions();

-- As other roles -----------------------------------------------------------------------------------------------------
select tests.as_user(tests.u(1));
select lives_ok($$ select realtime.send('{}', 'ev', 'room:1') $$, 'who may not insert is warned, not stopped');
select is_empty('select from realtime.messages', 'and sees nothing');
select throws_ok($$ insert into realtime.messages (topic, extension) values ('room:1', 'broadcast') $$, '42501', null,
  'a direct insert is refused as row-level security refuses');
select tests.as_owner();
select is_empty('select from realtime.messages', 'nothing was sent');
create policy "one room" on realtime.messages for insert to authenticated
  with check (realtime.topic() = 'room:' || right(auth.uid()::text, 1) and extension = 'broadcast' and private);
select tests.as_user(tests.u(1));
select realtime.send('{"to": "own"}', 'ev', 'room:1'), realtime.send('{"to": "other"}', 'ev', 'room:2'),
  realtime.send('{"to": "public"}', 'ev', 'room:1', false);
select tests.as_owner();
select results_eq($$ select payload ->> 'to' from realtime.messages $$, $$ values ('own') $$, 'policies on inserts decide who sends where');
delete from realtime.messages;
select tests.as_role('anon');
select realtime.send('{}', 'ev', 'room:1');
select tests.as_role('service_role');
select realtime.send('{"by": "service"}', 'ev', 'room:1');
select tests.as_owner();
select results_eq($$ select payload ->> 'by' from realtime.messages $$, $$ values ('service') $$, 'service_role sends anywhere, anon nowhere');

-- Changes of rows ----------------------------------------------------------------------------------------------------
create table public.things (id int, title text);
create function public.tell() returns trigger language plpgsql as $$
begin
  perform realtime.broadcast_changes('things', tg_argv[0], tg_op, tg_table_name, tg_table_schema, new, old, tg_level);
  return null;
end $$;
create trigger tell after insert or update or delete on public.things for each row execute function public.tell('changed');
delete from realtime.messages;
insert into public.things values (1, 'one');
update public.things set title = 'eins';
delete from public.things;
select results_eq($$ select topic, event, private, payload - 'id' from realtime.messages order by inserted_at $$, $$ values
  ('things', 'changed', true, '{"operation": "INSERT", "table": "things", "schema": "public", "record": {"id": 1, "title": "one"}, "old_record": null}'::jsonb),
  ('things', 'changed', true, '{"operation": "UPDATE", "table": "things", "schema": "public", "record": {"id": 1, "title": "eins"}, "old_record": {"id": 1, "title": "one"}}'),
  ('things', 'changed', true, '{"operation": "DELETE", "table": "things", "schema": "public", "record": null, "old_record": {"id": 1, "title": "eins"}}') $$,
  'each change of a row is told, in order, also within one transaction');
create trigger tell_all after insert on public.things for each statement execute function public.tell('changed');
select throws_like($$ insert into public.things values (2, 'two') $$, '%for each row%', 'a statement trigger is a mistake');
select throws_like($$ select realtime.broadcast_changes('t', 'e', 'TRUNCATE', 't', 's', null, null) $$, '%TRUNCATE%', 'so is another operation');

-- Announcing ---------------------------------------------------------------------------------------------------------
select ok(rollcall.enable_message_notifications(), 'nodes hear of messages');
select triggers_are('realtime', 'messages', array['rollcall_messages']);
drop trigger rollcall_messages on realtime.messages;
select ok(rollcall.enable_message_notifications(), 'and again after somebody dropped the trigger');
select triggers_are('realtime', 'messages', array['rollcall_messages']);

-- topic() ------------------------------------------------------------------------------------------------------------
select set_config('realtime.topic', '', true);
select is(realtime.topic(), null, 'without a channel topic() is null');
select set_config('realtime.topic', 'a:b c', true);
select is(realtime.topic(), 'a:b c', 'with one it is the channel without any prefix');

select * from finish();
rollback;
