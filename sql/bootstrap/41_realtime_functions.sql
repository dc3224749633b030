-- The functions in `realtime` with which SQL sends to channels, as on Supabase. Creates only what is missing.
-- Invariant: a message is a row that the calling role inserts, so that its policies are asked; the server delivers it
-- after the commit and never after a rollback.
do $do$
begin
  -- The channel of the transaction, for policies; null outside of one. Invoker: reads a setting. Without a search_path,
  -- like Supabase's: such a function is inlined, and this one names no object but pg_catalog's.
  if to_regprocedure('realtime.topic()') is null then
    create function realtime.topic() returns text
      language sql stable
    as $fn$ select nullif(current_setting('realtime.topic', true), '')::text $fn$;
    comment on function realtime.topic is 'The channel that a policy on realtime.messages is asked about.';
  end if;

  -- Sends a JSON object to a channel. Its row's id is added as `id` unless it has one. A sender must not fail because
  -- nobody could be told, so every error becomes a warning.
  -- Invoker: the policies for the calling role decide.
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
      language plpgsql volatile security invoker set search_path = ''
    as $fn$
    declare
      v_id constant uuid := gen_random_uuid();
    begin
      if jsonb_typeof(payload) is distinct from 'object' then
        raise exception 'the payload must be a JSON object';
      end if;
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (id, payload, event, topic, private, extension)
        values (v_id, jsonb_build_object('id', v_id) || payload, event, topic, private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $fn$;
    comment on function realtime.send is 'Sends a JSON object to a channel, once the transaction commits.';
  end if;

  -- The same with bytes, which have no place for an id.
  -- Invoker: the policies for the calling role decide.
  if to_regprocedure('realtime.send_binary(bytea, text, text, boolean)') is null then
    create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
      language plpgsql volatile security invoker set search_path = ''
    as $fn$
    begin
      if payload is null then
        raise exception 'the payload must not be null';
      end if;
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (binary_payload, event, topic, private, extension)
        values (payload, event, topic, private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $fn$;
    comment on function realtime.send_binary is 'Sends bytes to a channel, once the transaction commits.';
  end if;

  -- Tells a private channel of a changed row; to be called from a trigger for each row. Misuse is an error of the trigger.
  -- Invoker: the policies for the role that runs the trigger decide.
  if to_regproc('realtime.broadcast_changes') is null then
    create function realtime.broadcast_changes(
      topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
      level text default 'ROW'
    ) returns void
      language plpgsql volatile security invoker set search_path = ''
    as $fn$
    begin
      if level = 'STATEMENT' then
        raise exception 'realtime.broadcast_changes works in triggers for each row, not for each statement';
      end if;
      if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'realtime.broadcast_changes knows no operation %', coalesce(operation, 'null');
      end if;
      perform realtime.send(
        jsonb_build_object('operation', operation, 'table', table_name, 'schema', table_schema, 'record', new, 'old_record', old),
        event_name, topic_name, true);
    end
    $fn$;
    comment on function realtime.broadcast_changes is 'Tells a private channel of a changed row, from a row trigger.';
  end if;
end
$do$;
