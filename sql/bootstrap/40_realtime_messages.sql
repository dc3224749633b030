-- The table `realtime.messages` and its publication, as on Supabase. Creates only what is missing.
-- Invariant: row-level security is on and no policy is made here, so private channels are closed until the DBA opens
-- them. The owner of the migrations is a member of the table's owner: it makes policies, triggers and partitions.
do $$
begin
  if not exists (select from pg_roles where rolname = 'supabase_realtime_admin') then
    create role supabase_realtime_admin nologin noinherit;
  end if;
  -- The owner of a partition has to be able to own a table there.
  grant usage, create on schema realtime to supabase_realtime_admin;
  if exists (select from pg_roles where rolname = 'postgres' and not rolsuper)
    and not pg_has_role('postgres', 'supabase_realtime_admin', 'member')
  then
    grant supabase_realtime_admin to postgres;
  end if;

  if to_regclass('realtime.messages') is null then
    -- Times are UTC whatever the session's time zone, because partitions and replay go by them; and the time of the row
    -- instead of the transaction's, so that the rows of one transaction keep their order.
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
    alter table realtime.messages enable row level security;
    alter table realtime.messages owner to supabase_realtime_admin;
    grant select, insert, update on realtime.messages to anon, authenticated, service_role;
  end if;

  if not exists (select from pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages;
  end if;
end
$$;
