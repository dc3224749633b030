-- PostgreSQL looks for types in the temporary schema of a session first, whatever its search_path says, unless pg_temp is
-- in it. A role that may create temporary objects must not give functions of ours types of its own: the condition of a
-- domain runs with the rights of the function.
begin;
select plan(19);
-- As on Supabase.
create or replace function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
select tests.as_owner();

-- Every function, in any language.
create temp view ours as
  select p.oid::regprocedure::text as name, p.prosrc, p.proconfig
  from pg_proc p
  where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
    and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e');
select is_empty($$ select name from ours where exists (
    select from unnest(proconfig) c where c like 'search\_path=%' and c not like '%, pg_temp') $$,
  'a search_path of a function ends with pg_temp');
select is_empty($$ select name, found.type from ours
    cross join lateral regexp_matches(prosrc,
      '::(?!pg_catalog\.)("?[a-z_0-9]+"?)(?!\.|[a-z_0-9])|\mv_\w+ +(?:constant +)?(?!pg_catalog\.)([a-z_0-9]+)(?=\[|;| :=)',
      'g') as match (groups)
    cross join lateral (select coalesce(match.groups[1], match.groups[2])) as found (type)
    where not exists (select from unnest(proconfig) c where c like 'search\_path=%')
      -- Keywords of SQL, which no schema is searched for, and the names of rows in PL/pgSQL.
      and found.type not in ('int', 'integer', 'bigint', 'smallint', 'boolean', 'interval', 'real', 'double', 'numeric',
        'char', 'timestamp', 'record') $$,
  'a function without a search_path names the schema of each type');

create function pg_temp.notes(v pg_catalog.text) returns boolean language plpgsql as $$
begin
  if current_user <> 'authenticated' then
    perform set_config('tests.ran_as', current_user, true);
  end if;
  return true;
end
$$;
do $$
declare
  v_type pg_catalog.text;
begin
  foreach v_type in array array['text', 'uuid', 'jsonb', 'json', 'timestamptz', 'oid', 'regclass', 'name', 'xid8', 'bytea',
    'float8', 'tid', 'int4', 'int8', 'bool', 'date', 'inet', 'pg_snapshot', 'tsquery', 'tsvector', 'regtype']
  loop
    execute format('create domain pg_temp.%1$I as pg_catalog.%1$I check (pg_temp.notes(null))', v_type);
  end loop;
end
$$;
create function pg_temp.ran_as(p_statement pg_catalog.text) returns pg_catalog.text language plpgsql as $$
begin
  perform set_config('tests.ran_as', '', true);
  execute p_statement;
  return current_setting('tests.ran_as');
end
$$;
select tests.as_user(tests.u(1));
select is(pg_temp.ran_as(s.statement), '', s.statement)
from (values
  ($$insert into rollcall.presence_choices (user_id, chosen) values (tests.u(1), 'busy')$$),
  ($$update rollcall.presence_choices set chosen = 'dnd'$$),
  ($$delete from rollcall.presence_choices$$),
  ($$select rollcall.heartbeat_mine('web', true)$$),
  ($$select rollcall.sign_off_mine('web')$$),
  ($$insert into rollcall.presence_settings (user_id, visibility) values (tests.u(1), 'everyone')$$),
  ($$insert into rollcall.contacts (requester_id, addressee_id) values (tests.u(1), tests.u(2))$$),
  ($$insert into rollcall.blocks (blocker_id, blocked_id) values (tests.u(1), tests.u(3))$$),
  ($$select count(*) from rollcall.user_presence$$),
  ($$insert into rollcall.conversations (id, created_by) values (tests.u(9), tests.u(1))$$),
  ($$insert into rollcall.conversation_participants (conversation_id, user_id) values (tests.u(9), tests.u(1))$$),
  ($$select * from rollcall.my_visible_users()$$),
  ($$select * from rollcall.my_relations()$$),
  ($$select rollcall.export_mine()$$),
  ($$select rollcall.forget_me()$$),
  ($$select rollcall.invalidate_mine('topic_updated', '{}', null, null, null, null, null)$$),
  ($$select rollcall.role_search_path('authenticated')$$)
) as s (statement);

select * from finish();
rollback;
