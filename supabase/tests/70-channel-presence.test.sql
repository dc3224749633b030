-- Presence in channels as rows: who may read them, and how they end.
begin;
select plan(16);
select tests.as_owner();

select ok((select relrowsecurity from pg_class where oid = 'rollcall.presence'::regclass), 'row-level security is on');
select policies_are('rollcall', 'presence', array['own channel presence', 'service_role reads']);
select policies_are('rollcall_internal', 'channel_nodes', '{}'::name[]);
select is_empty(
  $$ select r.name from (values ('anon'), ('authenticated'), ('service_role')) r (name)
     where has_any_column_privilege(r.name, 'rollcall.presence', 'insert, update')
       or has_table_privilege(r.name, 'rollcall.presence', 'delete, truncate, trigger') $$,
  'only the server writes');

insert into rollcall.presence_nodes (id, lease_expires_at) values
  (tests.node(1), now() + interval '1 hour'), (tests.node(2), now() + interval '1 hour'), (tests.node(3), now() - interval '1 s');

-- A batch of a node: channel 1 is user 1's, channel 2 nobody's in particular.
create function pg_temp.note(p_node uuid, p_channel bigint, p_user uuid, p_payload text) returns void language sql
as $$
  select rollcall_internal.write_channel_presence(p_node, '{}', array[p_channel], array['room'], array[true], array['k' || p_channel],
    array[gen_random_uuid()::text], array[p_payload], array[p_user], array[now()], array[now()], true)
$$;
select pg_temp.note(tests.node(1), 1, tests.u(1), '{"n": 1}');
select pg_temp.note(tests.node(1), 2, null, '{"nul": "\u0000"}');
select pg_temp.note(tests.node(3), 1, null, '{}');

select results_eq(
  $$ select key, meta from rollcall.channel_presence order by key $$,
  $$ values ('k1', '{"n": 1}'::jsonb), ('k2', null) $$,
  'the view shows who is present on living nodes, also what jsonb cannot hold');

select results_eq($$ select topic, private, keys, metas from rollcall.channel_occupancy $$, $$ values ('room', true, 2::bigint, 2::bigint) $$,
  'the counts are those of living nodes');

select ok(rollcall_internal.complete_channel_presence(tests.node(1), '{1,2}'), 'a node that has written all is complete');
select ok(not rollcall_internal.complete_channel_presence(tests.node(1), '{1,2,3}'), 'one of whose rows is missing is not');
select ok(not rollcall_internal.complete_channel_presence(tests.node(9), '{}'), 'nor is one without a lease');

select tests.as_user(tests.u(1));
select results_eq($$ select key from rollcall.presence $$, $$ values ('k1') $$, 'a user sees the own channels');
select results_eq($$ select keys, metas from rollcall.channel_occupancy $$, $$ values (1::bigint, 1::bigint) $$, 'and counts no others');
select results_eq($$ select key from realtime.presence $$, $$ values ('k1') $$, 'also where people look who know the schema realtime');
select tests.as_role('anon');
select is_empty($$ select key from rollcall.presence $$, 'without a policy anon sees nobody');

select tests.as_owner();
delete from rollcall.presence_nodes where id = tests.node(1);
select is_empty(
  $$ select node from rollcall.presence where node = tests.node(1)
     union all select node from rollcall_internal.channel_nodes where node = tests.node(1) $$,
  'a node that is no more has nobody present');
select pg_temp.note(tests.node(2), 1, null, '{}');
select rollcall_internal.complete_channel_presence(tests.node(2), '{1}');
truncate rollcall.presence;
select is_empty($$ select node from rollcall_internal.channel_nodes $$, 'whoever empties the table makes all nodes write again');
select pg_temp.note(tests.node(2), 1, null, '{}');
select rollcall_internal.leave_channel_presence(tests.node(2));
select is_empty($$ select node from rollcall.presence where node = tests.node(2) $$, 'a node that leaves takes its rows along');

select * from finish();
rollback;
