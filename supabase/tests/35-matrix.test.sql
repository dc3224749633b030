-- The whole of who may do what: for each table, role and verb what is allowed and what is not. A table, a view or a
-- function that browsers may call without a row here fails the test.
begin;
select no_plan();
select tests.as_owner();

-- anon and service_role: the letters of what they may do, over all rows (s i u d); `-` where they may not, and 0 where they
-- may ask but reach no row.
-- authenticated, as user 1: 'no' where it is refused outright (42501), else which rows it reaches, as an expression over
-- the table's columns; for insert 'yes' with a row that it may insert and one that it may not.
create temp table matrix (
  name text primary key, anon text, service text, reads text, updates text, deletes text, may_insert text, may_not_insert text
) on commit drop;
insert into matrix values
  ('rollcall.operator_audit', '----', 's---', 'no', 'no', 'no', null, null),
  ('rollcall.presence_nodes', '----', 'siud', 'no', 'no', 'no', null, null),
  ('rollcall.presence_devices', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, device_id) values (tests.u(1), 'new')$$, $$(user_id, device_id) values (tests.u(2), 'new')$$),
  ('rollcall.presence_choices', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, chosen) values (tests.u(1), 'dnd') on conflict (user_id) do update set chosen = 'dnd'$$, $$(user_id, chosen) values (tests.u(7), 'dnd')$$),
  ('rollcall.user_last_seen', '----', 'siud', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.presence_settings', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id) values (tests.u(1)) on conflict (user_id) do update set show_typing = true$$, $$(user_id) values (tests.u(7))$$),
  ('rollcall.presence_visibility_list', '----', 'siud', 'user_id = tests.u(1)', 'no', 'user_id = tests.u(1)',
    $$(user_id, viewer_id) values (tests.u(1), tests.u(7))$$, $$(user_id, viewer_id) values (tests.u(2), tests.u(1))$$),
  -- Of the own faces the trusted one; of contacts, who are on the list of nobody, the public one.
  ('rollcall.user_presence', '----', 'siud',
    $$user_id = tests.u(1) and face = 'trusted' or user_id = tests.u(2) and face = 'public'$$, 'no', 'no', null, null),
  ('rollcall.contacts', '----', 'siud', 'tests.u(1) in (requester_id, addressee_id)', 'addressee_id = tests.u(1)',
    'tests.u(1) in (requester_id, addressee_id)',
    '(requester_id, addressee_id) values (tests.u(1), tests.u(7))', '(requester_id, addressee_id) values (tests.u(7), tests.u(1))'),
  ('rollcall.blocks', '----', 'siud', 'blocker_id = tests.u(1)', 'no', 'blocker_id = tests.u(1)',
    '(blocker_id, blocked_id) values (tests.u(1), tests.u(7))', '(blocker_id, blocked_id) values (tests.u(7), tests.u(1))'),
  ('rollcall.teams', '----', 'siud', 'id in (tests.node(1), tests.node(3))', 'owner_id = tests.u(1)', 'owner_id = tests.u(1)',
    $$(name, owner_id) values ('mine', tests.u(1))$$, $$(name, owner_id) values ('theirs', tests.u(2))$$),
  ('rollcall.team_members', '----', 'siud', 'team_id in (tests.node(1), tests.node(3))', 'user_id = tests.u(1)',
    'user_id = tests.u(1) or team_id = tests.node(1)',
    '(team_id, user_id, accepted_at) values (tests.node(1), tests.u(7), null)', '(team_id, user_id) values (tests.node(1), tests.u(7))'),
  ('rollcall.conversations', '----', 'siud', 'id in (tests.node(11), tests.node(13))', 'created_by = tests.u(1)', 'created_by = tests.u(1)',
    '(created_by) values (tests.u(1))', '(created_by) values (tests.u(2))'),
  ('rollcall.conversation_participants', '----', 'siud', 'conversation_id in (tests.node(11), tests.node(13))', 'no',
    'user_id = tests.u(1) or conversation_id = tests.node(11)',
    '(conversation_id, user_id) values (tests.node(11), tests.u(7))', '(conversation_id, user_id) values (tests.node(13), tests.u(7))'),
  ('rollcall.typing_indicators', '----', 'siud', 'conversation_id = tests.node(11)::text', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    '(conversation_id, user_id) values (tests.node(13), tests.u(1))', '(conversation_id, user_id) values (tests.node(11), tests.u(3))'),
  ('rollcall.messages', '----', 'siud', 'conversation_id in (tests.node(11), tests.node(13))', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(conversation_id, user_id, content) values (tests.node(11), tests.u(1), 'x')$$, $$(conversation_id, user_id, content) values (tests.node(11), tests.u(2), 'x')$$),
  ('rollcall.atomic_chat_units', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, content) values (tests.u(1), 'x')$$, $$(user_id, content) values (tests.u(2), 'x')$$),
  ('rollcall.memories', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, content) values (tests.u(1), 'x')$$, $$(user_id, content) values (tests.u(2), 'x')$$),
  ('rollcall.memory_settings', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, conversation_id, learns) values (tests.u(1), tests.node(11), false)$$,
    $$(user_id, conversation_id, learns) values (tests.u(1), tests.node(15), false)$$),
  ('rollcall.memory_sources', '----', 'siud', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.model_usage', '----', 'siud', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.personas', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, name) values (tests.u(1), 'x')$$, $$(user_id, name) values (tests.u(2), 'x')$$),
  ('rollcall.notebooks', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, title) values (tests.u(1), 'x')$$, $$(user_id, title) values (tests.u(2), 'x')$$),
  ('rollcall.custom_instructions', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, content) values (tests.u(1), 'x')$$, $$(user_id, content) values (tests.u(2), 'x')$$),
  ('rollcall.topic_profiles', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, slug, label) values (tests.u(1), 'x', 'x')$$, $$(user_id, slug, label) values (tests.u(2), 'x', 'x')$$),
  ('rollcall.entity_profiles', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(user_id, slug, name) values (tests.u(1), 'x', 'x')$$, $$(user_id, slug, name) values (tests.u(2), 'x', 'x')$$),
  ('rollcall.topic_conversations', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(topic_id, conversation_id, user_id) values (tests.node(41), tests.node(13), tests.u(1))$$, $$(topic_id, conversation_id, user_id) values (tests.node(42), tests.node(11), tests.u(1))$$),
  ('rollcall.entity_conversations', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(entity_id, conversation_id, user_id) values (tests.node(41), tests.node(13), tests.u(1))$$, $$(entity_id, conversation_id, user_id) values (tests.node(42), tests.node(11), tests.u(1))$$),
  ('rollcall.topic_units', '----', 'siud', 'user_id = tests.u(1)', 'user_id = tests.u(1)', 'user_id = tests.u(1)',
    $$(topic_id, unit_id, user_id) values (tests.node(41), tests.node(45), tests.u(1))$$, $$(topic_id, unit_id, user_id) values (tests.node(42), tests.node(41), tests.u(1))$$),
  ('rollcall.entity_units', '----', 'siud', 'user_id = tests.u(1)', 'no', 'user_id = tests.u(1)',
    $$(entity_id, unit_id, user_id) values (tests.node(41), tests.node(45), tests.u(1))$$, $$(entity_id, unit_id, user_id) values (tests.node(42), tests.node(41), tests.u(1))$$),
  ('rollcall.context_bundles', '----', 'siud', 'user_id = tests.u(1)', 'no', 'user_id = tests.u(1)', null, null),
  ('rollcall.system_actions', '----', 'siud', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall_internal.context_source_changes', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.context_access_version', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.topic_words', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.deleted_accounts', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.messages_to_learn', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.learning_turns', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.roll_ups', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.dirty_bundles', '----', 's---', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.invalidation_queue', '----', 's---', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall_internal.visibility_log', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.own_tables', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.schema_migrations', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.schema_migrations', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.nodes', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.change_settings', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.channel_presence', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.installed_objects', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.seed_files', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.notification_key', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.examined_policies', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.relay', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.publication', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.outbox', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.operator_audit', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.node_messages', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.retention', '----', 's-u-', 'no', 'no', 'no', null, null),
  ('rollcall.event_settings', '----', 's-u-', 'no', 'no', 'no', null, null),
  ('rollcall_internal.event_queue', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.events', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.events', '----', 's---', 'no', 'no', 'no', null, null),
  ('rollcall.webhooks', '----', 'siud', 'no', 'no', 'no', null, null),
  ('rollcall_internal.webhook_deliveries', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.dead_letters', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.webhook_dead_letters', '----', 's--d', 'no', 'no', 'no', null, null),
  ('rollcall_internal.changed_topics', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.event_members', '----', '----', 'no', 'no', 'no', null, null),
  -- As user_presence.
  ('rollcall.presence_sessions', '----', 'siud',
    $$user_id = tests.u(1) and face = 'trusted' or user_id = tests.u(2) and face = 'public'$$, 'no', 'no', null, null),
  ('rollcall_internal.triggers', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.limits', '----', 's-u-', 'no', 'no', 'no', null, null),
  ('rollcall.quotas', '----', 's-u-', 'no', 'no', 'no', null, null),
  ('rollcall_internal.rate_limits', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall.personal_data', '----', 's---', 'true', 'no', 'no', null, null),
  ('rollcall.change_settings', '----', '----', 'no', 'no', 'no', null, null),
  -- Closed until the DBA opens channels with policies.
  ('realtime.messages', '0-0-', 'siu-', 'false', 'false', 'no', null, null),
  ('rollcall.presence', '0---', 's---', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall_internal.channel_nodes', '----', '----', 'no', 'no', 'no', null, null),
  ('rollcall_internal.bus', '----', '----', 'no', 'no', 'no', null, null),
  -- Views show what the asking role sees of the tables behind them.
  ('rollcall.channel_presence', '----', 's---', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.channel_occupancy', '----', 's---',
    'topic in (select p.topic from rollcall.channel_presence p where p.user_id = tests.u(1))', 'no', 'no', null, null),
  ('realtime.presence', '----', 's---', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.online', '----', 's---', 'user_id in (tests.u(1), tests.u(2))', 'no', 'no', null, null),
  ('rollcall.online_devices', '----', 's---', 'user_id = tests.u(1)', 'no', 'no', null, null),
  ('rollcall.used_tables', '----', 's---', 'no', 'no', 'no', null, null);

-- Nothing is left out ------------------------------------------------------------------------------------------------
create temp view relations as
  select c.oid, c.oid::regclass::text as short, n.nspname || '.' || c.relname as name, c.relkind, c.relrowsecurity, c.reloptions
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('rollcall', 'rollcall_internal', 'realtime')
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e');
select is_empty('select name from relations except select name from matrix', 'every table and view has its row in the matrix');
select is_empty('select name from matrix except select name from relations', 'and every row of the matrix its table');
select is_empty($$ select name from relations where relkind in ('r', 'p') and not relrowsecurity $$, 'row-level security is on for all');
select is_empty($$ select name from relations where relkind in ('v', 'm') and not coalesce('security_invoker=true' = any (reloptions), false) $$,
  'and views ask as whoever reads them');

-- The data: user 1 has a row in everything, knows user 2; users 3 and 4 are strangers -----------------------------------
update rollcall.event_settings set presence_sessions = true, record_always = true;
insert into rollcall.webhooks (url) values ('https://receiver.example/');
insert into rollcall_internal.dead_letters (webhook_id, event_id, type, data, occurred_at, attempts, last_error)
  select w.id, 1, 'user.online', '{}', now(), 1, 'refused' from rollcall.webhooks w;
select tests.says(tests.u(n), 'busy') from generate_series(1, 4) n;
insert into rollcall.presence_nodes (id, lease_expires_at) values (tests.node(90), now() + interval '1 hour');
insert into rollcall.presence_settings (user_id) select tests.u(n) from generate_series(1, 4) n;
insert into rollcall.presence_visibility_list (user_id, viewer_id) values (tests.u(1), tests.u(4)), (tests.u(3), tests.u(4));
insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values
  (tests.u(1), tests.u(2), now()), (tests.u(5), tests.u(1), null), (tests.u(3), tests.u(4), now());
insert into rollcall.blocks (blocker_id, blocked_id) values (tests.u(1), tests.u(9)), (tests.u(3), tests.u(1));
insert into rollcall.teams (id, name, owner_id) values
  (tests.node(1), 'owned', tests.u(1)), (tests.node(3), 'joined', tests.u(3)), (tests.node(5), 'other', tests.u(3));
insert into rollcall.team_members (team_id, user_id) values
  (tests.node(1), tests.u(8)), (tests.node(3), tests.u(1)), (tests.node(3), tests.u(3)), (tests.node(5), tests.u(3));
insert into rollcall.conversations (id, created_by) values
  (tests.node(11), tests.u(1)), (tests.node(13), tests.u(3)), (tests.node(15), tests.u(3));
insert into rollcall.conversation_participants (conversation_id, user_id) values
  (tests.node(11), tests.u(1)), (tests.node(11), tests.u(2)), (tests.node(13), tests.u(1)), (tests.node(13), tests.u(3)),
  (tests.node(15), tests.u(3));
insert into rollcall.typing_indicators (conversation_id, user_id, expires_at)
  select n.c, n.u, now() + interval '3 seconds' from (values
  (tests.node(11), tests.u(1)), (tests.node(11), tests.u(2)), (tests.node(13), tests.u(3)), (tests.node(15), tests.u(3))) n (c, u);
-- Prepared context, of users 1 and 2.
insert into rollcall.messages (conversation_id, user_id, content) values
  (tests.node(11), tests.u(1), 'a'), (tests.node(11), tests.u(2), 'b'), (tests.node(13), tests.u(3), 'c'), (tests.node(15), tests.u(3), 'd');
insert into rollcall.atomic_chat_units (id, user_id, content) values (tests.node(41), tests.u(1), 'x'), (tests.node(45), tests.u(1), 'y'), (tests.node(42), tests.u(2), 'x');
insert into rollcall.memories (user_id, content) values (tests.u(1), 'x'), (tests.u(2), 'x');
insert into rollcall.memory_sources (memory_id, message_id, user_id)
  select k.id, m.id, k.user_id from rollcall.memories k join rollcall.messages m on m.user_id = k.user_id where k.user_id in (tests.u(1), tests.u(2));
insert into rollcall.memory_settings (user_id, learns) values (tests.u(1), true), (tests.u(2), true);
insert into rollcall.model_usage (user_id, purpose, provider, model, prompt_tokens, completion_tokens)
  select tests.u(n), 'chat', 'p', 'm', 1, 1 from generate_series(1, 2) n;
insert into rollcall.personas (user_id, name) values (tests.u(1), 'x'), (tests.u(2), 'x');
insert into rollcall.notebooks (user_id, title) values (tests.u(1), 'n'), (tests.u(2), 'n');
insert into rollcall.custom_instructions (user_id, content) values (tests.u(1), 'i'), (tests.u(2), 'i');
insert into rollcall.topic_profiles (id, user_id, slug, label) values (tests.node(41), tests.u(1), 't', 't'), (tests.node(42), tests.u(2), 't', 't');
insert into rollcall.entity_profiles (id, user_id, slug, name) values (tests.node(41), tests.u(1), 'e', 'e'), (tests.node(42), tests.u(2), 'e', 'e');
insert into rollcall.topic_conversations (topic_id, conversation_id, user_id) values (tests.node(41), tests.node(11), tests.u(1)), (tests.node(42), tests.node(11), tests.u(2));
insert into rollcall.entity_conversations (entity_id, conversation_id, user_id) values (tests.node(41), tests.node(11), tests.u(1)), (tests.node(42), tests.node(11), tests.u(2));
insert into rollcall.topic_units (topic_id, unit_id, user_id) values (tests.node(41), tests.node(41), tests.u(1)), (tests.node(42), tests.node(42), tests.u(2));
insert into rollcall.entity_units (entity_id, unit_id, user_id) values (tests.node(41), tests.node(41), tests.u(1)), (tests.node(42), tests.node(42), tests.u(2));
insert into rollcall.context_bundles (user_id, bundle_type, content, token_count, compiled_at, compiled_seeing, expires_at, dirty)
  select tests.u(n), 'identity_core', 'x', 1, now(), pg_current_snapshot(), now() + interval '1 hour', true from generate_series(1, 2) n;
insert into rollcall.system_actions (user_id, kind, trigger) select tests.u(n), 'warm_up', 'test' from generate_series(1, 2) n;
insert into rollcall_internal.channel_presence (node, channel, topic, private, key, phx_ref, payload, user_id, joined_at, updated_at)
  select tests.node(90), n, 'room ' || n, true, 'k', 'r' || n, '{}', tests.u(n), now(), now() from generate_series(1, 2) n;
select rollcall.broadcast('custom', 'x', array[tests.u(1)], '{}');

-- What a statement does: how many rows, or the error. It leaves nothing behind.
create function pg_temp.outcome(p_sql text) returns text language plpgsql as $$
declare
  v_rows bigint;
begin
  execute p_sql;
  get diagnostics v_rows = row_count;
  raise exception '%', v_rows using errcode = 'P0R00';
exception
  when sqlstate 'P0R00' then return sqlerrm;
  -- A view that cannot be written by anybody.
  when object_not_in_prerequisite_state then return '42501';
  -- An identity column.
  when generated_always then return '42501';
  when others then return sqlstate;
end
$$;

-- A column that the role may update, or any: refused either way without the right.
create function pg_temp.touch(p_table text) returns text language sql stable as $$
  select case p_table
    -- An update that does not extend the typing is left out.
    when 'rollcall.typing_indicators' then 'update rollcall.typing_indicators set expires_at = now() + interval ''5 seconds'''
    else format('update %s set %I = %2$I', p_table, a.attname) end
  from pg_attribute a
  where a.attrelid = (
      select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname || '.' || c.relname = p_table)
    and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = ''
  order by has_column_privilege(a.attrelid, a.attnum, 'update') desc, a.attname = 'id', a.attnum limit 1
$$;

create temp table outcomes (name text, role text, verb text, expected text, got text) on commit drop;
do $$
declare
  v record;
  v_role text;
  v_count text;
  v_got text[];
begin
  for v in select m.*, r.relkind from pg_temp.matrix m join pg_temp.relations r using (name) order by name loop
    execute format('select count(*) from %s', v.name) into v_count;
    foreach v_role in array array['anon', 'service_role', 'nobody', 'authenticated'] loop
      if v_role = 'authenticated' then perform tests.as_user(tests.u(1));
      else perform tests.as_role(case v_role when 'nobody' then 'authenticated' else v_role end); end if;
      v_got := array[
        pg_temp.outcome(format('select 1 from %s', v.name)), pg_temp.outcome(pg_temp.touch(v.name)),
        pg_temp.outcome(format('delete from %s', v.name))];
      perform tests.as_owner();
      -- A token without a user reaches what is everybody's, and nothing else.
      insert into pg_temp.outcomes
      select v.name, v_role, verb.name,
        case v_role
          when 'anon' then case substr(v.anon, verb.place, 1) when '-' then '42501' when '0' then '0' else v_count end
          when 'service_role' then case substr(v.service, verb.place, 1) when '-' then '42501' else v_count end
          when 'nobody' then case verb.rule when 'no' then '42501' when 'true' then v_count else '0' end
          else case verb.rule when 'no' then '42501' else (
            xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %s where %s', v.name, verb.rule), false, true, '')))[1]::text end
        end,
        v_got[verb.n]
      from (values ('select', 1, 1, v.reads), ('update', 3, 2, v.updates), ('delete', 4, 3, v.deletes)) as verb (name, place, n, rule);
    end loop;

    foreach v_role in array array['anon', 'service_role', 'nobody'] loop
      perform tests.as_role(case v_role when 'nobody' then 'authenticated' else v_role end);
      v_got := array[pg_temp.outcome(format('insert into %s %s', v.name, coalesce(v.may_insert, 'default values')))];
      perform tests.as_owner();
      insert into pg_temp.outcomes values (v.name, v_role, 'insert',
        case when v_role = 'service_role' and v.service like '_i__' then 'not refused' else '42501' end,
        case when v_got[1] = '42501' or v_role <> 'service_role' then v_got[1] else 'not refused' end);
    end loop;
    perform tests.as_user(tests.u(1));
    v_got := array[
      pg_temp.outcome(format('insert into %s %s', v.name, coalesce(v.may_insert, 'default values'))),
      pg_temp.outcome(format('insert into %s %s', v.name, coalesce(v.may_not_insert, 'default values')))];
    perform tests.as_owner();
    insert into pg_temp.outcomes values
      (v.name, 'authenticated', 'insert', case when v.may_insert is null then '42501' else '1' end, v_got[1]),
      (v.name, 'authenticated', 'insert of another''s', '42501', v_got[2]);
  end loop;
end
$$;
select is(got, expected, format('%s: %s by %s', name, verb, role)) from outcomes order by name, role, verb;

-- The predicates tell rows apart: each reaches some and leaves some, or the matrix proves nothing.
create temp table told on commit drop as
  select m.name, rule.verb,
    (xpath('/row/c/text()', query_to_xml(format('select count(*) filter (where %s) > 0 and count(*) filter (where not (%1$s)) > 0 as c from %s', rule.said, m.name), false, true, '')))[1]::text as tells
  from matrix m cross join lateral (values ('select', m.reads), ('update', m.updates), ('delete', m.deletes)) rule (verb, said)
  where rule.said not in ('no', 'true', 'false');
select is_empty($$ select name, verb from told where tells <> 'true' $$, 'for every predicate there are rows inside and outside of it');

-- Functions ------------------------------------------------------------------------------------------------------------
-- Every function that runs with its owner's rights and that a browser's role may call: why that is safe.
create temp table reasons (signature text primary key, reason text not null) on commit drop;
insert into reasons values
  ('rollcall.my_visible_users()', 'answers for auth.uid() only, and with what user_presence shows'),
  ('rollcall.my_relations()', 'answers for auth.uid() only'),
  ('rollcall.my_teams()', 'answers for auth.uid() only'),
  ('rollcall.my_conversations()', 'answers for auth.uid() only'),
  ('rollcall.my_conversation_ids()', 'answers for auth.uid() only'),
  ('rollcall.conversation_key(text)', 'computes from its argument and the type of the IDs in use'),
  ('rollcall.can_see_user(uuid)', 'tells what user_presence shows to auth.uid()'),
  ('rollcall_internal.can_see_typing(uuid)', 'for the policy of typing_indicators; API roles have no usage of its schema'),
  ('rollcall.any_node_lives(uuid[])', 'tells of random ids whether a server runs; nodes are read by service_role only'),
  ('rollcall.consume_status_quota()', 'counts against auth.uid() only'),
  ('rollcall.record_heartbeat(text,boolean)', 'acts on a device of auth.uid() that the caller has written'),
  ('rollcall.invalidate_mine(text,rollcall.bundle_type[],uuid,uuid,uuid,uuid,uuid)', 'flags the bundles of auth.uid() only'),
  ('rollcall.my_topics()', 'answers for auth.uid() only'),
  ('rollcall.my_fresh_bundles(uuid[])', 'answers for the bundles of auth.uid() only'),
  ('rollcall.context_access_version()', 'a number for the versions of policies and grants; names no user'),
  ('rollcall.confirmed_access_version(bigint)', 'compares that number; names no user'),
  ('rollcall.match_words(text,text,integer)', 'searches the units and memories of auth.uid() only'),
  ('rollcall.my_phrases(text[],integer)', 'searches the units of auth.uid() only'),
  ('rollcall.open_answer(uuid)', 'answers questions of auth.uid() only'),
  ('rollcall.context_counts()', 'counts for auth.uid(), and for everybody only as service_role'),
  ('rollcall.record_sign_off(text)', 'acts on a device of auth.uid() that the caller has written'),
  ('rollcall.record_forgetting()', 'acts on the rows of auth.uid(), after the caller has deleted those that users write');
create temp view functions as
  select p.oid, p.oid::regprocedure::text as signature, p.prosecdef, p.proconfig, p.prorettype, p.proacl, p.proowner, p.prosrc
  from pg_proc p
  where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e');
select is_empty(
  $$ select signature from functions where prosecdef
       and (has_function_privilege('anon', oid, 'execute') or has_function_privilege('authenticated', oid, 'execute'))
     except select signature from reasons $$,
  'no definer function is open to browsers without a reason given here');
select is_empty($$ select signature from reasons except select signature from functions where prosecdef $$, 'and no reason is left over');
select is_empty(
  $$ select signature from functions
     where prosecdef and not exists (select from unnest(proconfig) c where c = 'search_path=pg_catalog, pg_temp')
       and prosrc not like '%rollcall_internal.check_search_path();%' $$,
  'every definer function pins its search_path or checks it');
select is_empty(
  $$ select f.signature from functions f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
     where a.grantee = 0 and a.privilege_type = 'EXECUTE' $$,
  'PUBLIC calls no function');
select is_empty(
  $$ select s.relname from pg_class s join pg_namespace n on n.oid = s.relnamespace and n.nspname in ('rollcall', 'rollcall_internal')
     where s.relkind = 'S' and (has_sequence_privilege('anon', s.oid, 'usage, update') or has_sequence_privilege('authenticated', s.oid, 'usage, update')) $$,
  'browsers draw no numbers');

select * from finish();
rollback;
