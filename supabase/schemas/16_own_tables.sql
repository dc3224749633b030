-- Module: presence
-- Where relations come from: the built-in tables, or tables of the application. Every policy, function and query reads
-- relations through the functions of this file and no other way. With a built-in table such a function is an SQL
-- function that the planner inlines; rollcall.use_table replaces it with one over the application's table.

create table rollcall_internal.own_tables (
  relation text not null constraint own_tables_pkey primary key
    constraint own_tables_relation_is_known check (relation in ('contacts', 'blocks', 'team_members', 'participants')),
  source regclass not null,
  user_column name not null,
  other_column name,
  group_column name,
  condition text,
  search_path text not null,
  shape text not null,
  definition text not null,
  followed_columns name[] not null,
  used_since timestamptz not null default now()
);
comment on table rollcall_internal.own_tables is
  'Tables of the application that relations are read from. A relation without a row comes from its built-in table.';
comment on column rollcall_internal.own_tables.search_path is 'The search_path under which the condition was declared.';
comment on column rollcall_internal.own_tables.shape is
  'Name of the table and types of its columns, as the functions were generated for.';
comment on column rollcall_internal.own_tables.definition is
  'The query that gives user_key and other_key, or group_key and user_key, with qualified names.';
comment on column rollcall_internal.own_tables.followed_columns is
  'The key columns and the columns that the condition reads: a change of another column changes no relation.';
-- No policies: only the server reads it.
alter table rollcall_internal.own_tables enable row level security;

-- A dropped table counts as not used, also before its row is deleted.
-- Definer: shows names only, from a schema that API roles may not use; service_role only.
create function rollcall.tables_in_use() returns table (relation text, source text, built_in boolean,
  user_column name, other_column name, group_column name, condition text, used_since timestamptz)
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select b.relation, coalesce(o.source, b.source) as source, o.relation is null as built_in,
    coalesce(o.user_column, b.user_column) as user_column, coalesce(o.other_column, b.other_column) as other_column,
    coalesce(o.group_column, b.group_column) as group_column, o.condition, o.used_since
  from (values
    ('contacts', 'rollcall.contacts', 'requester_id'::name, 'addressee_id'::name, null::name),
    ('blocks', 'rollcall.blocks', 'blocker_id', 'blocked_id', null),
    ('team_members', 'rollcall.team_members', 'user_id', null, 'team_id'),
    ('participants', 'rollcall.conversation_participants', 'user_id', null, 'conversation_id')
  ) as b (relation, source, user_column, other_column, group_column)
  left join (
    select t.relation, format('%I.%I', n.nspname, c.relname) as source, t.user_column, t.other_column, t.group_column,
      t.condition, t.used_since
    from rollcall_internal.own_tables t
    join pg_catalog.pg_class c on c.oid = t.source
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  ) o on o.relation = b.relation
$$;
comment on function rollcall.tables_in_use is 'The rows of rollcall.used_tables.';
grant execute on function rollcall.tables_in_use to service_role;

-- Invoker: whoever may call the function reads its rows.
create view rollcall.used_tables with (security_invoker = true) as
  select t.relation, t.source, t.built_in, t.user_column, t.other_column, t.group_column, t.condition, t.used_since
  from rollcall.tables_in_use() t;
comment on view rollcall.used_tables is
  'The table that each relation is read from: a built-in one, or one that rollcall.use_table declared.';
revoke all on rollcall.used_tables from anon, authenticated, service_role;
grant select on rollcall.used_tables to service_role;

-- Keys as text --------------------------------------------------------------------------------------------------------

-- Invoker: computes from its argument. Without settings, so that it is inlined.
create function rollcall_internal.text_as_uuid(p_text text) returns uuid
  language sql immutable security invoker
as $$
  select case when p_text ~* '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'
    then p_text::pg_catalog.uuid end
$$;
comment on function rollcall_internal.text_as_uuid is 'Text as UUID, or null where it is none.';

-- Invoker: computes from its argument. Without settings, so that it is inlined.
create function rollcall_internal.text_as_bigint(p_text text) returns bigint
  language sql immutable security invoker
as $$
  select case when p_text ~ '^-?[0-9]{1,19}$'
    then case when p_text::numeric between -9223372036854775808 and 9223372036854775807 then p_text::bigint end end
$$;
comment on function rollcall_internal.text_as_bigint is 'Text as integer, or null where it is none.';

-- Built-in tables -----------------------------------------------------------------------------------------------------

-- Invoker and without settings, so that all of these are inlined into the calling statement. For the server only.

create function rollcall_internal.built_in_contacts_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select c.addressee_id from rollcall.contacts c where c.requester_id = p_user and c.accepted_at is not null
  union all
  select c.requester_id from rollcall.contacts c where c.addressee_id = p_user and c.accepted_at is not null
$$;
comment on function rollcall_internal.built_in_contacts_of is 'Accepted contacts of a user in the built-in table.';

create function rollcall_internal.built_in_blocked_with(p_user uuid) returns setof uuid
  language sql stable security invoker rows 10
as $$
  select b.blocked_id from rollcall.blocks b where b.blocker_id = p_user
  union all
  select b.blocker_id from rollcall.blocks b where b.blocked_id = p_user
$$;
comment on function rollcall_internal.built_in_blocked_with is
  'Users on the other side of a block, in either direction, in the built-in table.';

create function rollcall_internal.built_in_blocks_between(p_one uuid, p_other uuid) returns setof boolean
  language sql stable security invoker rows 1
as $$
  select true from rollcall.blocks b where b.blocker_id = p_one and b.blocked_id = p_other
  union all
  select true from rollcall.blocks b where b.blocker_id = p_other and b.blocked_id = p_one
$$;
comment on function rollcall_internal.built_in_blocks_between is
  'One row per block between two users in the built-in table.';

create function rollcall_internal.built_in_team_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select theirs.user_id from rollcall.team_members mine
  join rollcall.team_members theirs using (team_id)
  where mine.user_id = p_user and mine.accepted_at is not null and theirs.accepted_at is not null
$$;
comment on function rollcall_internal.built_in_team_mates_of is
  'Members of the teams of a user, the user included, in the built-in table.';

create function rollcall_internal.built_in_team_members_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select m.user_id from rollcall.team_members m
  where m.accepted_at is not null
    and m.team_id = any (array(select rollcall_internal.text_as_uuid(g.id) from pg_catalog.unnest(p_groups) as g (id)))
$$;
comment on function rollcall_internal.built_in_team_members_in is 'Members of some teams in the built-in table.';

create function rollcall_internal.built_in_conversations_of(p_user uuid) returns setof text
  language sql stable security invoker rows 50
as $$
  select p.conversation_id::pg_catalog.text from rollcall.conversation_participants p where p.user_id = p_user
$$;
comment on function rollcall_internal.built_in_conversations_of is 'Conversations of a user in the built-in table.';

create function rollcall_internal.built_in_conversation_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select theirs.user_id from rollcall.conversation_participants mine
  join rollcall.conversation_participants theirs using (conversation_id)
  where mine.user_id = p_user
$$;
comment on function rollcall_internal.built_in_conversation_mates_of is
  'Participants of the conversations of a user, the user included, in the built-in table.';

create function rollcall_internal.built_in_participants_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$
  select p.user_id from rollcall.conversation_participants p
  where p.conversation_id = any (array(select rollcall_internal.text_as_uuid(g.id)
    from pg_catalog.unnest(p_groups) as g (id)))
$$;
comment on function rollcall_internal.built_in_participants_in is
  'Participants of some conversations in the built-in table.';

create function rollcall_internal.built_in_conversation_id_kind() returns setof text
  language sql stable security invoker rows 1
as $$
  select 'uuid'
$$;
comment on function rollcall_internal.built_in_conversation_id_kind is 'The type of IDs of built-in conversations.';

-- Tables in use -------------------------------------------------------------------------------------------------------

-- The functions that everything else calls. As created here they read the built-in tables;
-- rollcall_internal.write_relation_functions replaces the body. Invoker, as above.

create function rollcall_internal.contacts_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_contacts_of($1) $$;
comment on function rollcall_internal.contacts_of is 'Accepted contacts of a user.';

create function rollcall_internal.blocked_with(p_user uuid) returns setof uuid
  language sql stable security invoker rows 10
as $$ select * from rollcall_internal.built_in_blocked_with($1) $$;
comment on function rollcall_internal.blocked_with is 'Users on the other side of a block, in either direction.';

create function rollcall_internal.blocks_between(p_one uuid, p_other uuid) returns setof boolean
  language sql stable security invoker rows 1
as $$ select * from rollcall_internal.built_in_blocks_between($1, $2) $$;
comment on function rollcall_internal.blocks_between is 'One row per block between two users.';

create function rollcall_internal.team_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_team_mates_of($1) $$;
comment on function rollcall_internal.team_mates_of is 'Members of the teams of a user, the user included.';

create function rollcall_internal.team_members_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_team_members_in($1) $$;
comment on function rollcall_internal.team_members_in is 'Members of some teams.';

create function rollcall_internal.conversations_of(p_user uuid) returns setof text
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_conversations_of($1) $$;
comment on function rollcall_internal.conversations_of is 'IDs of the conversations of a user.';

create function rollcall_internal.conversation_mates_of(p_user uuid) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_conversation_mates_of($1) $$;
comment on function rollcall_internal.conversation_mates_of is
  'Participants of the conversations of a user, the user included.';

create function rollcall_internal.participants_in(p_groups text[]) returns setof uuid
  language sql stable security invoker rows 50
as $$ select * from rollcall_internal.built_in_participants_in($1) $$;
comment on function rollcall_internal.participants_in is 'Participants of some conversations.';

create function rollcall_internal.conversation_id_kind() returns setof text
  language sql stable security invoker rows 1
as $$ select * from rollcall_internal.built_in_conversation_id_kind() $$;
comment on function rollcall_internal.conversation_id_kind is 'Type of IDs of conversations: uuid, bigint or text.';

-- Null if the members cannot be read, because the condition of a table in use raises an error or the table is locked:
-- such a group must not delay the changes of others.
-- Stable, so that it reads in the snapshot of the calling statement. Invoker: called by the server.
create function rollcall_internal.members_of_group(p_relation text, p_group text) returns uuid[]
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
  if p_relation = 'team_members' then
    return array(
      select m.id from rollcall_internal.team_members_in(array[p_group]) as m (id) where m.id is not null);
  end if;
  return array(select m.id from rollcall_internal.participants_in(array[p_group]) as m (id) where m.id is not null);
exception when others then
  raise warning 'Rollcall cannot read the members of a group of %: %', p_relation, sqlerrm
    using hint = 'Declare the table again with rollcall.use_table.';
  return null;
end
$$;
comment on function rollcall_internal.members_of_group is
  'Members of a team or participants of a conversation; null if they cannot be read.';

-- The one spelling of an ID that typing_indicators stores: UUIDs in lower case with hyphens, integers without leading
-- zeros, other text as it is.
-- Definer: reads which table is used, from a schema that API roles may not use.
create function rollcall.conversation_key(p_id text) returns text
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind constant text := (select k from rollcall_internal.conversation_id_kind() k);
  v_key constant text := case v_kind
    when 'uuid' then rollcall_internal.text_as_uuid(p_id)::text
    when 'bigint' then rollcall_internal.text_as_bigint(p_id)::text
    else case when char_length(p_id) between 1 and 255 and p_id !~ '[[:cntrl:]]' then p_id end
  end;
begin
  if v_key is null then
    raise exception 'conversation_id: must be %', case v_kind when 'uuid' then 'a UUID' when 'bigint' then 'an integer'
      else 'text of 1 to 255 characters without control characters' end using errcode = 'invalid_text_representation';
  end if;
  return v_key;
end
$$;
comment on function rollcall.conversation_key is
  'The stored form of a conversation ID; raises 22P02 for an invalid one.';
grant execute on function rollcall.conversation_key to authenticated, service_role;

-- Definer: reads the participants of all conversations without their policies. Answers for auth.uid() only. PL/pgSQL,
-- because the body of an SQL function is planned again in every statement that calls it.
create function rollcall.my_conversation_ids() returns setof text
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp rows 100
as $$
declare
  v_me constant uuid := auth.uid();
begin
  return query select c.id from rollcall_internal.conversations_of(v_me) as c (id);
end
$$;
comment on function rollcall.my_conversation_ids is
  'IDs of the conversations that the caller takes part in, from the table in use.';
grant execute on function rollcall.my_conversation_ids to authenticated, service_role;

-- Following changes ---------------------------------------------------------------------------------------------------

-- Argument: the relation. Compares the rows of one statement as multisets of the followed columns, so that a change of
-- another column, such as the time of the last visit, invalidates nothing. An error here must not fail the
-- application's statement: everything is invalidated instead.
-- Definer: see invalidate_visibility. Column names come from own_tables, which only use_table writes.
create function rollcall_internal.on_own_table_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_own rollcall_internal.own_tables;
  v_columns text;
  v_rows text;
  v_ids uuid[];
  v_groups text[];
  v_void text;
begin
  select o.* into v_own from rollcall_internal.own_tables o where o.relation = tg_argv[0];
  if not found then
    return null;
  end if;
  -- The user first, then the other user or the group, then what the condition reads.
  v_columns := format('%I::text as a, %I::text as b', v_own.user_column,
    coalesce(v_own.other_column, v_own.group_column))
    || (select coalesce(string_agg(format(', %I::text as c%s', f.name, f.place), '' order by f.place), '')
        from unnest(v_own.followed_columns) with ordinality as f (name, place));
  v_rows := case tg_op
    when 'INSERT' then format('select %s from new_rows', v_columns)
    when 'DELETE' then format('select %s from old_rows', v_columns)
    else format('(select %1$s from new_rows except all select %1$s from old_rows) union all '
      '(select %1$s from old_rows except all select %1$s from new_rows)', v_columns) end;
  if v_own.group_column is null then
    execute format('select array(select distinct rollcall_internal.text_as_uuid(side.id) from (%s) changed '
      'cross join lateral (values (changed.a), (changed.b)) side (id) '
      'where rollcall_internal.text_as_uuid(side.id) is not null)', v_rows) into v_ids;
    if cardinality(v_ids) > 0 then
      v_void := rollcall_internal.note_visibility_change(v_ids, v_ids, v_own.source::text);
    end if;
    return null;
  end if;
  execute format('select array_agg(moved.b), array_agg(moved.id) from (select distinct changed.b, '
    'rollcall_internal.text_as_uuid(changed.a) as id from (%s) changed '
    'where rollcall_internal.text_as_uuid(changed.a) is not null and changed.b is not null limit 1001) moved',
    v_rows) into v_groups, v_ids;
  if v_ids is not null then
    v_void := rollcall_internal.note_members_change(v_own.relation, v_groups, v_ids, v_own.source::text);
  end if;
  return null;
exception when others then
  raise warning 'Rollcall cannot follow %: %', tg_relid::regclass, sqlerrm
    using hint = 'Declare the table again with rollcall.use_table.';
  v_void := rollcall_internal.note_visibility_change(null, null, tg_table_name);
  return null;
end
$$;
comment on function rollcall_internal.on_own_table_changed is
  'Trigger function: changed rows of a table in use invalidate visibility between the users that they concern.';

-- On the table, and on its partitions and children, because a statement on one of these does not fire the triggers of
-- its parent. Existing triggers stay as they are.
-- Invoker: called by definer functions only.
create function rollcall_internal.follow_own_table(p_relation text, p_source regclass) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    with recursive part (id) as (
      select p_source::oid
      union
      select i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.id
    )
    select part.id::regclass as source, format('rollcall_follow_%s_%s', p_relation, o.verb) as name, o.verb,
      o.transitions, o.action
    from part
    cross join (values
      ('insert', 'referencing new table as new_rows', 'on_own_table_changed'),
      ('update', 'referencing old table as old_rows new table as new_rows', 'on_own_table_changed'),
      ('delete', 'referencing old table as old_rows', 'on_own_table_changed'),
      ('truncate', '', 'on_truncated')
    ) as o (verb, transitions, action)
    where not exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = part.id and t.tgname = format('rollcall_follow_%s_%s', p_relation, o.verb))
    order by part.id, o.verb
  loop
    execute format('create trigger %I after %s on %s %s for each statement execute function rollcall_internal.%I(%L)',
      v_trigger.name, v_trigger.verb, v_trigger.source, v_trigger.transitions, v_trigger.action, p_relation);
  end loop;
end
$$;
comment on function rollcall_internal.follow_own_table is
  'Creates the triggers on a table that a relation is read from.';

-- Each change of such a table may change relations of users that its rows do not name, so the triggers of its own that
-- rollcall.watch or Rollcall creates do not suffice.
-- Invoker: called by definer functions only.
create function rollcall_internal.follow_condition_table(p_table regclass) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create or replace trigger rollcall_condition after insert or update or delete or truncate on %s
    for each statement execute function rollcall_internal.on_watched_table_changed()', p_table);
end
$$;
comment on function rollcall_internal.follow_condition_table is
  'Creates the trigger on a table that the condition of a table in use reads.';

-- Invoker: called by definer functions only.
create function rollcall_internal.unfollow_own_tables(p_relation text) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgrelid::regclass as source, t.tgname as name
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'rollcall_internal'::regnamespace
    where not t.tgisinternal
      and t.tgname in (select format('rollcall_follow_%s_%s', p_relation, o.verb)
        from unnest(array['insert', 'update', 'delete', 'truncate']) as o (verb))
  loop
    execute format('drop trigger %I on %s', v_trigger.name, v_trigger.source);
  end loop;
end
$$;
comment on function rollcall_internal.unfollow_own_tables is
  'Drops the triggers of a relation on the application''s tables.';

-- Generated functions -------------------------------------------------------------------------------------------------

-- The name is qualified, because search_path has no schema with tables.
-- Invoker: reads catalogs only.
create function rollcall_internal.own_table_shape(p_source regclass, p_columns name[]) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select p_source::text || ' ' || string_agg(format('%I %s', c.name, pg_catalog.format_type(a.atttypid, null)), ', '
    order by c.place)
  from unnest(p_columns) with ordinality as c (name, place)
  left join pg_catalog.pg_attribute a on a.attrelid = p_source and a.attname = c.name and not a.attisdropped
  where c.name is not null
$$;
comment on function rollcall_internal.own_table_shape is 'Name of a table and types of some of its columns.';

-- A domain counts as its base type; smallint and integer count as bigint; null is a type that cannot be a key.
-- Invoker: reads catalogs only.
create function rollcall_internal.key_kind(p_source regclass, p_column name) returns text
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.oid = 'uuid'::regtype then 'uuid'
    when t.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'bigint'
    when t.typcategory = 'S' then 'text'
  end
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = rollcall_internal.base_type(a.atttypid)
  where a.attrelid = p_source and a.attname = p_column and a.attnum > 0 and not a.attisdropped
$$;
comment on function rollcall_internal.key_kind is 'Kind of a key column: uuid, bigint or text.';

-- Invoker: computes from its argument.
create function rollcall_internal.functions_of_relation(p_relation text) returns setof text
  language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
  select unnest(case p_relation
    when 'contacts' then array['contacts_of']
    when 'blocks' then array['blocked_with', 'blocks_between']
    when 'team_members' then array['team_mates_of', 'team_members_in']
    when 'participants' then array['conversations_of', 'conversation_mates_of', 'participants_in',
      'conversation_id_kind']
  end)
$$;
comment on function rollcall_internal.functions_of_relation is 'Names of the functions that read a relation.';

-- Bodies over the application's table. %1$s is its definition; mine and theirs of a group are joined by the raw column,
-- so that its index is used.
-- Invoker: computes from a row.
create function rollcall_internal.own_relation_queries(p_own rollcall_internal.own_tables)
  returns table (function_name text, query text)
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_source constant text := format('(%s)', p_own.definition);
  v_user constant text := rollcall_internal.key_kind(p_own.source, p_own.user_column);
  v_group constant text := rollcall_internal.key_kind(p_own.source, p_own.group_column);
  -- A parameter as the user or other column compares with it, and such a column as UUID.
  v_is constant text := case v_user when 'uuid' then '%s.%s::uuid = %s' else '%s.%s::text = %s::text' end;
  v_get constant text := case v_user when 'uuid' then '%s.%s::uuid'
    else 'rollcall_internal.text_as_uuid(%s.%s::text)' end;
  v_groups constant text := case v_group
    when 'uuid' then 'array(select rollcall_internal.text_as_uuid(g.id) from pg_catalog.unnest(p_groups) as g (id))'
    when 'bigint' then 'array(select rollcall_internal.text_as_bigint(g.id) from pg_catalog.unnest(p_groups) as g (id))'
    else 'p_groups' end;
  v_group_key constant text := case v_group when 'text' then 'r.group_key::text' else 'r.group_key' end;
  v_pairs text;
  v_mates text;
  v_members text;
begin
  v_pairs := format('select %s from %s r where %s union all select %s from %s r where %s',
    format(v_get, 'r', 'other_key'), v_source, format(v_is, 'r', 'user_key', 'p_user'),
    format(v_get, 'r', 'user_key'), v_source, format(v_is, 'r', 'other_key', 'p_user'));
  v_mates := format('select %s from %s mine join %s theirs on theirs.group_key = mine.group_key where %s',
    format(v_get, 'theirs', 'user_key'), v_source, v_source, format(v_is, 'mine', 'user_key', 'p_user'));
  v_members := format('select %s from %s r where %s = any (%s)', format(v_get, 'r', 'user_key'), v_source, v_group_key,
    v_groups);
  return query
    select q.name, q.query
    from (values
      ('contacts_of', v_pairs),
      ('blocked_with', v_pairs),
      ('blocks_between',
        format('select true from %s r where %s and %s union all select true from %s r where %s and %s',
          v_source, format(v_is, 'r', 'user_key', 'p_one'), format(v_is, 'r', 'other_key', 'p_other'),
          v_source, format(v_is, 'r', 'user_key', 'p_other'), format(v_is, 'r', 'other_key', 'p_one'))),
      ('team_mates_of', v_mates),
      ('team_members_in', v_members),
      ('conversations_of',
        format('select r.group_key::text from %s r where %s', v_source, format(v_is, 'r', 'user_key', 'p_user'))),
      ('conversation_mates_of', v_mates),
      ('participants_in', v_members),
      ('conversation_id_kind', format('select %L::text', v_group))
    ) as q (name, query)
    where q.name in (select f from rollcall_internal.functions_of_relation(p_own.relation) f);
end
$$;
comment on function rollcall_internal.own_relation_queries is
  'The queries of a relation''s functions over a table of the application.';

-- With the application's table a function is PL/pgSQL: it reads the built-in table once that table is dropped, and the
-- condition runs with the search_path under which it was declared.
-- Definer: the functions belong to the owner of Rollcall.
create function rollcall_internal.write_relation_functions(p_relation text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_own rollcall_internal.own_tables;
  v_is_own boolean;
  v_function record;
  v_built_in text;
begin
  select o.* into v_own from rollcall_internal.own_tables o where o.relation = p_relation;
  v_is_own := found;
  -- The functions have the signatures and estimates of those over the built-in tables.
  for v_function in
    select n.name, q.query, pg_catalog.pg_get_function_arguments(f.oid) as arguments,
      pg_catalog.format_type(f.prorettype, null) as result, f.prorows::int as expected_rows,
      (select coalesce(string_agg(format('$%s', i), ', '), '') from generate_series(1, f.pronargs) i) as parameters
    from rollcall_internal.functions_of_relation(p_relation) as n (name)
    join pg_catalog.pg_proc f
      on f.pronamespace = 'rollcall_internal'::regnamespace and f.proname = 'built_in_' || n.name
    left join rollcall_internal.own_relation_queries(v_own) q on v_is_own and q.function_name = n.name
  loop
    v_built_in := format('select * from rollcall_internal.built_in_%s(%s)', v_function.name, v_function.parameters);
    execute format('create or replace function rollcall_internal.%I(%s) returns setof %s '
        'language %s stable security invoker rows %s %s as %L',
      v_function.name, v_function.arguments, v_function.result, case when v_is_own then 'plpgsql' else 'sql' end,
      v_function.expected_rows,
      -- With pg_temp last, because the query names types without their schema.
      case when v_is_own then format('set search_path = %s, pg_temp', coalesce(nullif(v_own.search_path, ''), '""'))
        else '' end,
      case when v_is_own then format(e'\n#variable_conflict use_column\nbegin\n'
          '  if exists (select from rollcall_internal.own_tables o join pg_catalog.pg_class c on c.oid = o.source\n'
          '    where o.relation = %L)\n  then\n    return query %s;\n  else\n    return query %s;\n  end if;\nend\n',
          p_relation, v_function.query, v_built_in)
        else format(' %s ', v_built_in) end);
  end loop;
end
$$;
comment on function rollcall_internal.write_relation_functions is
  'Replaces the functions of a relation: over the table of the application in own_tables, else over the built-in one.';

-- Declaring tables ----------------------------------------------------------------------------------------------------

-- The query behind the functions, with all names qualified: PostgreSQL parses the condition under the caller's
-- search_path and prints it under one without schemas. Also the columns that it reads and the other tables.
-- Invoker and without a search_path of its own: called by use_table only, which has checked it.
create function rollcall_internal.define_own_table(p_own rollcall_internal.own_tables, out definition text,
  out followed_columns name[], out other_tables regclass[])
  language plpgsql volatile security invoker
as $$
declare
  v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
  v_source pg_catalog.text;
begin
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  v_source := p_own.source::pg_catalog.text;
  perform pg_catalog.set_config('search_path', v_path, true);
  begin
    execute pg_catalog.format('create view rollcall_internal.own_source as select %I as %I, %I as %I from %s%s',
      case when p_own.group_column is null then p_own.user_column else p_own.group_column end,
      case when p_own.group_column is null then 'user_key' else 'group_key' end,
      case when p_own.group_column is null then p_own.other_column else p_own.user_column end,
      case when p_own.group_column is null then 'other_key' else 'user_key' end,
      v_source, pg_catalog.format(case when p_own.condition is not null then ' where (%s)' else '' end,
        p_own.condition));
  exception when syntax_error or undefined_column or undefined_function or undefined_table or undefined_object
    or datatype_mismatch or ambiguous_column or ambiguous_function or grouping_error or windowing_error
    or feature_not_supported or wrong_object_type or invalid_text_representation or cannot_coerce
  then
    raise exception 'condition: %', sqlerrm using errcode = 'invalid_parameter_value',
      hint = 'The condition is an SQL expression over the columns of the table that gives true or false.';
  end;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  definition := pg_catalog.rtrim(pg_catalog.pg_get_viewdef('rollcall_internal.own_source'::pg_catalog.regclass), ';');
  select pg_catalog.array_agg(distinct a.attname) filter (where d.refobjid = p_own.source),
    pg_catalog.array_agg(distinct c.oid::pg_catalog.regclass) filter (where d.refobjid <> p_own.source)
  into followed_columns, other_tables
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
    and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> r.ev_class
  join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
  left join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid and a.attnum > 0
  where r.ev_class = 'rollcall_internal.own_source'::pg_catalog.regclass;
  drop view rollcall_internal.own_source;
  perform pg_catalog.set_config('search_path', v_path, true);
end
$$;
comment on function rollcall_internal.define_own_table is
  'Parses the declaration of a table: its query, the columns that it reads, and other tables in its condition.';

-- Invoker: computes from its argument.
create function rollcall_internal.check_relation(p_relation text) returns void
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from rollcall_internal.functions_of_relation(p_relation)) then
    raise exception 'relation: must be one of contacts, blocks, team_members, participants (got %)',
      coalesce(quote_literal(p_relation), 'null') using errcode = 'invalid_parameter_value';
  end if;
end
$$;
comment on function rollcall_internal.check_relation is 'Raises an error for a relation that does not exist.';

-- Everything that can be wrong with a declaration, in the order in which a caller mends it.
-- Invoker: called by use_table only, as the owner of Rollcall.
-- Over 60 lines: one refusal after the other, each with its message.
create function rollcall_internal.check_own_table(p_own rollcall_internal.own_tables) returns void
  language plpgsql stable security invoker set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind "char" := (select c.relkind from pg_catalog.pg_class c where c.oid = p_own.source);
  v_schema constant text := (select n.nspname from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = p_own.source);
  v_owner constant name := (select pg_catalog.pg_get_userbyid(c.relowner) from pg_catalog.pg_class c
    where c.oid = p_own.source);
  v_grouped constant boolean := p_own.relation in ('team_members', 'participants');
  v_column record;
begin
  perform rollcall_internal.check_relation(p_own.relation);
  if p_own.source is null or v_kind is null then
    raise exception 'source: must be a table' using errcode = 'invalid_parameter_value';
  end if;
  if v_schema in ('rollcall', 'rollcall_internal', 'pg_catalog', 'information_schema') or v_schema like 'pg\_%' then
    raise exception 'source: % is not a table of the application', p_own.source
      using errcode = 'wrong_object_type', hint = format('For the built-in table: select rollcall.use_built_in(%L);',
        p_own.relation);
  end if;
  if v_kind not in ('r', 'p') then
    raise exception 'source: % must be a table, because changes of it are followed by triggers', p_own.source
      using errcode = 'wrong_object_type', hint = 'Name the table behind the view, and give its filter as condition.';
  end if;
  for v_column in
    select * from (values
      ('user_column', p_own.user_column, true), ('other_column', p_own.other_column, not v_grouped),
      ('group_column', p_own.group_column, v_grouped)
    ) as c (parameter, name, wanted)
  loop
    if v_column.wanted and v_column.name is null then
      raise exception '%: is required for %', v_column.parameter, p_own.relation
        using errcode = 'invalid_parameter_value';
    elsif not v_column.wanted and v_column.name is not null then
      raise exception '%: does not apply to %', v_column.parameter, p_own.relation
        using errcode = 'invalid_parameter_value';
    elsif v_column.name is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = p_own.source and a.attname = v_column.name and a.attnum > 0 and not a.attisdropped)
    then
      raise exception '%: % has no column %', v_column.parameter, p_own.source, quote_ident(v_column.name)
        using errcode = 'undefined_column';
    elsif v_column.name is not null and coalesce(rollcall_internal.key_kind(p_own.source, v_column.name), '')
      <> all (case when v_column.parameter = 'group_column' then array['uuid', 'bigint', 'text']
        else array['uuid', 'text'] end)
    then
      raise exception '%: % of % must be %', v_column.parameter, quote_ident(v_column.name), p_own.source,
        case when v_column.parameter = 'group_column' then 'of type uuid, bigint or text'
          else 'of type uuid, or text that holds UUIDs' end
        using errcode = 'datatype_mismatch';
    end if;
  end loop;
  if p_own.user_column = coalesce(p_own.other_column, p_own.group_column) then
    raise exception 'user_column: must differ from the other column' using errcode = 'invalid_parameter_value';
  end if;
  if not pg_catalog.has_table_privilege(p_own.source, 'select')
    or not pg_catalog.has_table_privilege(p_own.source, 'trigger')
  then
    raise exception 'source: role % may not read % and create triggers on it', current_user, p_own.source
      using errcode = 'insufficient_privilege', hint = format('As its owner run: grant select, trigger on %s to %I;',
        p_own.source, current_user);
  end if;
  -- Rows that policies hide from the owner of Rollcall would be missing in silence.
  if pg_catalog.row_security_active(p_own.source) and not exists (
    select from pg_catalog.pg_policy p
    where p.polrelid = p_own.source and p.polpermissive and p.polcmd in ('r', '*')
      and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
      and exists (select from unnest(p.polroles) as r (id)
        where case when r.id = 0 then true else pg_catalog.pg_has_role(current_user, r.id, 'usage') end))
  then
    raise exception 'source: row-level security of % hides rows from role %', p_own.source, current_user
      using errcode = 'insufficient_privilege', hint = format('Run: grant %I to %I; or: create policy '
        '"Rollcall reads all rows" on %s for select to %2$I using (true);', v_owner, current_user, p_own.source);
  end if;
end
$$;
comment on function rollcall_internal.check_own_table is 'Raises an error for a declaration that cannot be used.';

-- Invoker: reads catalogs only.
create function rollcall_internal.unindexed_columns(p_own rollcall_internal.own_tables) returns setof name
  language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$
  select c.name
  from unnest(array[p_own.user_column, p_own.other_column, p_own.group_column]) as c (name)
  join pg_catalog.pg_attribute a on a.attrelid = p_own.source and a.attname = c.name
  where not exists (
    select from pg_catalog.pg_index i where i.indrelid = p_own.source and i.indisvalid and i.indkey[0] = a.attnum)
$$;
comment on function rollcall_internal.unindexed_columns is 'Key columns of a table in use that no index begins with.';

-- Contacts and blocks: user_column and other_column, in either direction for contacts; blocks hide both sides.
-- Team members and participants: group_column and user_column. A later declaration of a relation replaces it.
-- Definer: it creates functions in rollcall_internal. Only the owner of Rollcall and superusers may call it: the
-- condition runs with the rights of the owner.
-- Without a search_path of its own: the condition is parsed under the caller's. check_search_path protects it.
create function rollcall.use_table(relation text, source regclass, user_column name default null,
  other_column name default null, group_column name default null, condition text default null) returns void
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_own rollcall_internal.own_tables;
  v_path pg_catalog.text;
  v_defined record;
  v_name pg_catalog.text;
begin
  v_path := pg_catalog.current_setting('search_path');
  v_own.relation := use_table.relation;
  v_own.source := use_table.source;
  v_own.user_column := use_table.user_column;
  v_own.other_column := use_table.other_column;
  v_own.group_column := use_table.group_column;
  v_own.condition := nullif(pg_catalog.btrim(use_table.condition), '');
  perform rollcall_internal.check_own_table(v_own);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rollcall.own_tables', 0));
  v_defined := rollcall_internal.define_own_table(v_own);
  perform rollcall_internal.replace_own_table(v_own, v_path, v_defined.definition, v_defined.followed_columns);
  foreach v_name in array coalesce(v_defined.other_tables::pg_catalog.text[], '{}'::pg_catalog.text[]) loop
    perform rollcall_internal.follow_condition_table(v_name::pg_catalog.regclass);
  end loop;
  for v_name in select c from rollcall_internal.unindexed_columns(v_own) c loop
    raise notice 'no index of % begins with the column %: each look-up reads the whole table', v_own.source,
      pg_catalog.quote_ident(v_name)
      using hint = pg_catalog.format('create index on %s (%I);', v_own.source, v_name);
  end loop;
end
$$;
comment on function rollcall.use_table is
  'Reads contacts, blocks, team members or participants from a table of the application instead of the built-in one.';

-- Invoker: called by definer functions only.
create function rollcall_internal.replace_own_table(p_own rollcall_internal.own_tables, p_path text, p_definition text,
  p_followed name[]) returns void
  language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if rollcall_internal.has_virtual_column(p_own.source, p_followed::text[]) then
    raise exception 'source: % is read through a virtual generated column, whose changes triggers do not see',
      p_own.source using errcode = 'feature_not_supported', hint = 'Make the generated column stored.';
  end if;
  insert into rollcall_internal.own_tables as o (relation, source, user_column, other_column, group_column, condition,
      search_path, shape, definition, followed_columns)
    values (p_own.relation, p_own.source, p_own.user_column, p_own.other_column, p_own.group_column, p_own.condition,
      coalesce(nullif(p_path, ''), ''''''),
      rollcall_internal.own_table_shape(p_own.source,
        array[p_own.user_column, p_own.other_column, p_own.group_column]), p_definition, p_followed)
    on conflict (relation) do update set
      source = excluded.source, user_column = excluded.user_column, other_column = excluded.other_column,
      group_column = excluded.group_column, condition = excluded.condition, search_path = excluded.search_path,
      shape = excluded.shape, definition = excluded.definition, followed_columns = excluded.followed_columns,
      used_since = excluded.used_since;
  perform rollcall_internal.unfollow_own_tables(p_own.relation);
  perform rollcall_internal.follow_own_table(p_own.relation, p_own.source);
  perform rollcall_internal.write_relation_functions(p_own.relation);
  perform rollcall_internal.relation_replaced(p_own.relation);
end
$$;
comment on function rollcall_internal.replace_own_table is
  'Stores the declaration of a table and generates its triggers and functions.';

-- IDs of other conversations may have another type, so nobody types any more.
-- Invoker and without a search_path of its own: it fires triggers of users, and callers may have one without schemas.
-- Called by definer functions only.
create function rollcall_internal.relation_replaced(p_relation text) returns void
  language plpgsql volatile security invoker
as $$
declare
  v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
  v_void pg_catalog.text;
begin
  if p_relation operator(pg_catalog.=) 'participants' then
    perform pg_catalog.set_config('search_path', rollcall.role_search_path('none'), true);
    perform rollcall_internal.check_search_path();
    delete from rollcall.typing_indicators;
    perform pg_catalog.set_config('search_path', v_path, true);
  end if;
  v_void := rollcall_internal.note_visibility_change(null, null, 'relation ' operator(pg_catalog.||) p_relation);
end
$$;
comment on function rollcall_internal.relation_replaced is 'Invalidates everything after a relation got another table.';

-- Definer: see use_table.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall.use_built_in(relation text) returns boolean
  language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_found boolean;
begin
  perform rollcall_internal.check_relation(use_built_in.relation);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rollcall.own_tables', 0));
  delete from rollcall_internal.own_tables o where o.relation = use_built_in.relation;
  v_found := found;
  if v_found then
    perform rollcall_internal.unfollow_own_tables(use_built_in.relation);
    perform rollcall_internal.write_relation_functions(use_built_in.relation);
    perform rollcall_internal.relation_replaced(use_built_in.relation);
  end if;
  return v_found;
end
$$;
comment on function rollcall.use_built_in is
  'Reads a relation from its built-in table again; whether another one was in use.';

-- After DDL: forgets dropped tables, follows new partitions, and generates the functions again for a table that was
-- renamed or whose key columns have other types. What cannot be repaired stays as it is: then look-ups raise an error,
-- which shows nobody, and doctor reports it.
-- Definer: runs for any role that issues DDL.
-- Without a search_path of its own: conditions are parsed under the one that they were declared with.
create function rollcall_internal.refresh_own_tables() returns void
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
  v_own rollcall_internal.own_tables;
  v_defined record;
  v_path pg_catalog.text;
begin
  v_path := pg_catalog.current_setting('search_path');
  for v_own in select o.* from rollcall_internal.own_tables o order by o.relation loop
    begin
      if not exists (select from pg_catalog.pg_class c where c.oid = v_own.source) then
        perform rollcall.use_built_in(v_own.relation);
      elsif v_own.shape <> rollcall_internal.own_table_shape(v_own.source,
        array[v_own.user_column, v_own.other_column, v_own.group_column])
      then
        perform pg_catalog.set_config('search_path', v_own.search_path, true);
        v_defined := rollcall_internal.define_own_table(v_own);
        perform pg_catalog.set_config('search_path', v_path, true);
        perform rollcall_internal.replace_own_table(v_own, v_own.search_path, v_defined.definition,
          v_defined.followed_columns);
      else
        perform rollcall_internal.follow_own_table(v_own.relation, v_own.source);
      end if;
    exception when others then
      perform pg_catalog.set_config('search_path', v_path, true);
      raise warning 'Rollcall cannot read % from %: %', v_own.relation, v_own.source, sqlerrm
        using hint = 'Declare the table again with rollcall.use_table, or run rollcall.use_built_in.';
    end;
  end loop;
end
$$;
comment on function rollcall_internal.refresh_own_tables is 'Adapts to tables in use that were dropped or altered.';

-- Explaining ----------------------------------------------------------------------------------------------------------

-- The row of the application's table that names both users, whether or not the condition holds for it.
-- Definer: reads rows of all users. For explanations only.
create function rollcall_internal.own_evidence(p_relation text, p_viewer uuid, p_subject uuid) returns jsonb
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_own rollcall_internal.own_tables;
  v_row jsonb;
begin
  select o.* into v_own from rollcall_internal.own_tables o
    join pg_catalog.pg_class c on c.oid = o.source where o.relation = p_relation;
  if not found then
    return null;
  end if;
  if v_own.group_column is null then
    execute format('select to_jsonb(t) from %1$s t where t.%2$I::text = $1 and t.%3$I::text = $2
        union all select to_jsonb(t) from %1$s t where t.%2$I::text = $2 and t.%3$I::text = $1 limit 1',
      v_own.source, v_own.user_column, v_own.other_column) into v_row using p_viewer::text, p_subject::text;
  else
    execute format('select to_jsonb(theirs) from %1$s mine join %1$s theirs on theirs.%2$I = mine.%2$I
        where mine.%3$I::text = $1 and theirs.%3$I::text = $2 limit 1',
      v_own.source, v_own.group_column, v_own.user_column) into v_row using p_viewer::text, p_subject::text;
  end if;
  return jsonb_build_object('table', v_own.source::text, 'row', v_row);
end
$$;
comment on function rollcall_internal.own_evidence is
  'Table and row by which a table of the application relates two users; null while the built-in table is used.';
