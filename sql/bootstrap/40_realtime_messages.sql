-- The table `realtime.messages` and its publication, as on Supabase. Creates only what is missing.
-- Invariant: row-level security is on and no policy for users is created here, so private channels are closed until a
-- DBA opens them. The owner of Rollcall has the rights of the table's owner: it creates policies, triggers and partitions.
do $$
declare
  v_owner constant name := coalesce(nullif(current_setting('rollcall.owner', true), ''), current_user);
begin
  if not exists (select from pg_roles where rolname = 'supabase_realtime_admin') then
    create role supabase_realtime_admin nologin noinherit;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('role', 'supabase_realtime_admin', 'drop role if exists supabase_realtime_admin');
  end if;
  -- The owner of a partition must be able to own a table there.
  if not has_schema_privilege('supabase_realtime_admin', 'realtime', 'create') then
    grant usage, create on schema realtime to supabase_realtime_admin;
    insert into pg_temp.rollcall_created (kind, name, undo) values ('grant', 'schema realtime to supabase_realtime_admin',
      'revoke usage, create on schema realtime from supabase_realtime_admin');
  end if;
  if not pg_has_role(v_owner, 'supabase_realtime_admin', 'usage') then
    -- Since PostgreSQL 16 a role with NOINHERIT can have the rights of one role.
    execute pg_catalog.format('grant supabase_realtime_admin to %I%s', v_owner,
      case when current_setting('server_version_num')::int >= 160000 then ' with inherit true' else '' end);
    insert into pg_temp.rollcall_created (kind, name, undo) values ('grant', 'supabase_realtime_admin to ' || v_owner,
      pg_catalog.format('revoke supabase_realtime_admin from %I', v_owner));
  end if;

  if to_regclass('realtime.messages') is null then
    -- Times are UTC in every time zone, because partitions and replay depend on them; and the time of the row instead of
    -- the transaction, so that the rows of one transaction keep their order.
    create table realtime.messages (
      topic text not null,
      extension text not null,
      payload jsonb,
      event text,
      private boolean default false,
      updated_at timestamp not null default (clock_timestamp() at time zone 'utc'),
      inserted_at timestamp not null default (clock_timestamp() at time zone 'utc'),
      id uuid not null default gen_random_uuid(),
      binary_payload bytea,
      constraint messages_pkey primary key (id, inserted_at),
      constraint messages_payload_exclusive check (payload is null or binary_payload is null)
    ) partition by range (inserted_at);
    comment on table realtime.messages is
      'Broadcasts from the database, kept for three days; its policies decide who may use private channels.';
    create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
      where extension = 'broadcast' and private;
    -- For public channels whose history is kept as rows.
    create index messages_inserted_at_public_topic_index on realtime.messages (inserted_at desc, topic)
      where extension = 'broadcast' and not private;
    alter table realtime.messages enable row level security;
    if exists (select from pg_roles where rolname = 'service_role' and not rolbypassrls) then
      create policy "service_role has full access" on realtime.messages
        for all to service_role using (true) with check (true);
    end if;
    grant select, insert, update on realtime.messages to anon, authenticated, service_role;
    execute pg_catalog.format('alter table realtime.messages owner to %I',
      case when pg_has_role(v_owner, 'supabase_realtime_admin', 'usage') then 'supabase_realtime_admin' else v_owner end);
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('table', 'realtime.messages', 'drop table if exists realtime.messages');
  end if;

  if not exists (select from pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages;
    insert into pg_temp.rollcall_created (kind, name, undo) values ('publication',
      'supabase_realtime_messages_publication', 'drop publication if exists supabase_realtime_messages_publication');
  end if;
end
$$;
