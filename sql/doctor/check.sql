-- What keeps a database from serving rollcall, one row a check, in the order to mend things.
-- Returns name text, ok bool, finding text (for people), remedy text (SQL, or null where none is needed or none helps).
-- Reads catalogs only; asks as the role that the server uses.
with api_role as (
  select wanted, pg_roles.oid
  from unnest(array['anon', 'authenticated', 'service_role']) with ordinality as list (wanted, place)
  left join pg_roles on rolname = wanted
  order by place
),
roles as (
  select
    array_agg(wanted) filter (where oid is null) as missing,
    array_agg(wanted) filter (where oid is not null and not pg_has_role(current_user, oid, 'member')) as closed
  from api_role
),
-- Granted to a role that browsers come as, and without row-level security: open to everybody.
open_table as (
  select format('%I.%I', nspname, relname) as name
  from pg_class
  join pg_namespace on pg_namespace.oid = relnamespace
  where nspname = 'public'
    and relkind in ('r', 'p')
    and not relrowsecurity
    and exists (
      select from api_role
      where wanted in ('anon', 'authenticated') and oid is not null
        and has_table_privilege(oid, pg_class.oid, 'select, insert, update, delete')
    )
),
-- The table of channels: who owns it, and whether we may act as its owner.
messages as (
  select c.oid, c.relrowsecurity, owner.rolname as owner, pg_has_role(c.relowner, 'member') as ours,
    pg_has_role(c.relowner, 'member') or us.rolbypassrls or us.rolsuper as passes,
    'messages_' || to_char(clock_timestamp() at time zone 'utc', 'YYYY_MM_DD') as today
  from pg_class c
  join pg_roles owner on owner.oid = c.relowner
  join pg_roles us on us.rolname = current_user
  where c.oid = to_regclass('realtime.messages')
),
open_tables as (
  select string_agg(name, ', ' order by name) as names,
    string_agg(format('alter table %s enable row level security;', name), ' ' order by name) as remedy
  from open_table
)
select 'server_version' as name,
  current_setting('server_version_num')::int >= 150000 as ok,
  'PostgreSQL ' || current_setting('server_version') || '; 15 or newer is needed' as finding,
  null as remedy
union all
select 'wal_level',
  current_setting('wal_level') = 'logical',
  'wal_level is ' || current_setting('wal_level') || '; postgres_changes needs logical, and without it the commits of transactions that notify nodes wait for each other',
  'alter system set wal_level = ''logical''; -- then restart PostgreSQL'
union all
select 'replication_slots',
  used < most,
  format('%s of %s replication slots are used; each node that has subscribers to changes takes one, and the relay of notifications one', used, most),
  format('alter system set max_replication_slots = %s; -- then restart PostgreSQL', most + 4)
from (
  select (select count(*) from pg_replication_slots) as used, current_setting('max_replication_slots')::int as most
) slots
union all
select 'wal_senders',
  used < most,
  format('%s of %s WAL senders are used; each node that has subscribers to changes takes one, and the relay of notifications one', used, most),
  format('alter system set max_wal_senders = %s; -- then restart PostgreSQL', most + 4)
from (
  select (select count(*) from pg_stat_replication) as used, current_setting('max_wal_senders')::int as most
) senders
union all
select 'replication',
  rolreplication or rolsuper,
  format('the role %I may %sreplicate; postgres_changes and the relay of notifications need it',
    current_user, case when rolreplication or rolsuper then '' else 'not ' end),
  format('alter role %I replication;', current_user)
from pg_roles where rolname = current_user
union all
select 'roles',
  missing is null,
  case when missing is null then 'anon, authenticated and service_role exist'
    else 'missing: ' || array_to_string(missing, ', ') end,
  (select string_agg(format(
    'create role %I nologin noinherit%s;', name, case when name = 'service_role' then ' bypassrls' else '' end
  ), ' ') from unnest(missing) as name)
from roles
union all
select 'role_membership',
  closed is null and missing is null,
  case when closed is not null then format('the role %I cannot become ', current_user) || array_to_string(closed, ', ')
    when missing is not null then 'there are roles missing'
    else format('the role %I can become each of them', current_user) end,
  case when closed is not null
    then format('grant %s to %I;', array_to_string(closed, ', '), current_user) end
from roles
union all
select 'auth_uid',
  to_regprocedure('auth.uid()') is not null and to_regprocedure('auth.jwt()') is not null and to_regprocedure('auth.role()') is not null,
  case when to_regprocedure('auth.uid()') is not null and to_regprocedure('auth.jwt()') is not null and to_regprocedure('auth.role()') is not null
    then 'auth.uid(), auth.jwt() and auth.role() exist'
    else 'auth.uid(), auth.jwt() or auth.role() is missing; `rollcall migrate` as a superuser makes them too' end,
  $remedy$create schema if not exists auth; grant usage on schema auth to anon, authenticated, service_role; $remedy$
  || format('grant usage on schema auth to %I; ', current_user)
  || $remedy$create or replace function auth.jwt() returns jsonb language sql stable as $$select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb$$; create or replace function auth.uid() returns uuid language sql stable as $$select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid$$; create or replace function auth.role() returns text language sql stable as $$select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')$$;$remedy$
union all
select 'row_level_security',
  names is null,
  case when names is null then 'on in every table of the schema public that the API''s roles may use'
    else 'off, and so open to anybody with a key: ' || names end,
  remedy
from open_tables
union all
select 'publication',
  exists (select from pg_publication where pubname = 'supabase_realtime'),
  case when exists (select from pg_publication where pubname = 'supabase_realtime')
    then 'supabase_realtime exists'
    else 'the publication supabase_realtime is missing; postgres_changes reads it' end,
  'create publication supabase_realtime;'
union all
select 'relay_publication',
  exists (select from pg_publication where pubname = 'rollcall_relay'),
  case when exists (select from pg_publication where pubname = 'rollcall_relay')
    then 'rollcall_relay exists'
    else 'the publication rollcall_relay is missing; without the relay, commits of transactions that notify nodes wait for each other' end,
  'create publication rollcall_relay;'
union all
select 'messages',
  exists (select from messages where relrowsecurity),
  case when not exists (select from messages)
      then 'realtime.messages is missing, so there are no private channels; `rollcall migrate` as a superuser makes it'
    when exists (select from messages where relrowsecurity) then 'realtime.messages exists, with row-level security'
    else 'row-level security is off for realtime.messages, so every private channel is open' end,
  (select 'alter table realtime.messages enable row level security;' from messages where not relrowsecurity)
union all
select 'messages_probe',
  passes,
  format('the role %I may %sask the policies of private channels', current_user, case when passes then '' else 'not ' end),
  format('grant %I to %I;', owner, current_user)
from messages
union all
select 'messages_heard',
  exists (select from pg_trigger t where t.tgrelid = messages.oid and t.tgname = 'rollcall_messages' and t.tgenabled in ('O', 'A')),
  case when exists (select from pg_trigger t where t.tgrelid = messages.oid and t.tgname = 'rollcall_messages' and t.tgenabled in ('O', 'A'))
      then 'broadcasts from the database are heard'
    else format('broadcasts from the database are not heard: realtime.messages has no trigger of ours, and belongs to %I', owner) end,
  case when not ours then format('grant %I to %I; ', owner, current_user) else '' end || 'select rollcall.enable_message_notifications();'
from messages
union all
select 'messages_partition',
  to_regclass('realtime.' || today) is not null,
  case when to_regclass('realtime.' || today) is not null then 'realtime.messages has its partition of today'
    else 'realtime.messages has no partition of today, so nothing can be sent and no private channel joined' end,
  'select rollcall.maintain_message_partitions();'
from messages
union all
select 'published_tables',
  names is null,
  coalesce('published without a primary key, so that their inserts and updates are not told: ' || names,
    'every published table has a primary key'),
  remedy
from (
  select string_agg(name, ', ' order by name) as names,
    -- Where a unique index would do as a key it is made one; else nobody is left waiting for what does not come.
    string_agg(coalesce('alter table ' || name || ' add primary key using index ' || quote_ident(index) || ';',
      format('alter publication supabase_realtime drop table %s;', name)), ' ' order by name) as remedy
  from (
    -- Joined by name: a cast to regclass may be tried on tables that are not published, in schemas that we may not use.
    select format('%I.%I', t.schemaname, t.tablename) as name, (
        select c.relname from pg_index u
        join pg_class c on c.oid = u.indexrelid
        where u.indrelid = published.oid
          and u.indisunique and u.indisvalid and u.indimmediate and u.indpred is null and u.indexprs is null
          and not exists (select from pg_constraint k where k.conindid = u.indexrelid)
          and not exists (
            select from unnest(u.indkey) as key (number)
            join pg_attribute a on a.attrelid = u.indrelid and a.attnum = key.number
            where not a.attnotnull)
        order by c.relname
        limit 1
      ) as index
    from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname
    join pg_class published on published.relnamespace = n.oid and published.relname = t.tablename
    where t.pubname = 'supabase_realtime'
      and not exists (select from pg_index i where i.indisprimary and i.indrelid = published.oid)
  ) keyless
) told
