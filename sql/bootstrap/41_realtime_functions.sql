-- The functions in `realtime` with which SQL sends to channels, as on Supabase. Creates only what is missing.
-- Invariant: a message is a row that the calling role inserts, under its policies; the server delivers it after the
-- commit and never after a rollback. Without a search_path of their own, because they evaluate users' policies: every name
-- is qualified.
do $do$
begin
  -- The topic of the transaction, for policies; null without one. Invoker: reads a setting.
  if to_regprocedure('realtime.topic()') is null then
    create function realtime.topic() returns text
      language sql stable
    as $fn$ select nullif(current_setting('realtime.topic', true), '')::text $fn$;
    comment on function realtime.topic is 'The topic for which a policy on realtime.messages is evaluated.';
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('function', 'realtime.topic()', 'drop function if exists realtime.topic()');
  end if;

  -- Sends a JSON object to a channel. The row's id is added as `id` unless there is one. A sender must not fail with the
  -- delivery, so every error becomes a warning, as on Supabase.
  -- Invoker: the policies of the calling role decide.
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
      language plpgsql volatile security invoker
    as $fn$
    declare
      v_id constant uuid := gen_random_uuid();
    begin
      if jsonb_typeof(payload) is distinct from 'object' then
        raise exception 'the payload must be a JSON object';
      end if;
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (id, payload, event, topic, private, extension)
        values (v_id, pg_catalog.jsonb_build_object('id', v_id) || payload, event, topic, private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $fn$;
    comment on function realtime.send is 'Sends a JSON object to a channel, once the transaction commits.';
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('function', 'realtime.send(jsonb, text, text, boolean)', 'drop function if exists realtime.send(jsonb, text, text, boolean)');
  end if;

  -- The same with bytes, without an id.
  -- Invoker: the policies of the calling role decide.
  if to_regprocedure('realtime.send_binary(bytea, text, text, boolean)') is null then
    create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
      returns void
      language plpgsql volatile security invoker
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
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('function', 'realtime.send_binary(bytea, text, text, boolean)', 'drop function if exists realtime.send_binary(bytea, text, text, boolean)');
  end if;

  -- Sends a changed row to a private channel; for triggers for each row. Wrong use is an error of the trigger.
  -- Invoker: the policies for the role that runs the trigger decide.
  if to_regproc('realtime.broadcast_changes') is null then
    create function realtime.broadcast_changes(
      topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
      level text default 'ROW'
    ) returns void
      language plpgsql volatile security invoker
    as $fn$
    begin
      if level = 'STATEMENT' then
        raise exception 'realtime.broadcast_changes works in triggers for each row, not for each statement';
      end if;
      if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'realtime.broadcast_changes knows no operation %', coalesce(operation, 'null');
      end if;
      perform realtime.send(
        pg_catalog.jsonb_build_object(
          'operation', operation, 'table', table_name, 'schema', table_schema, 'record', new, 'old_record', old),
        event_name, topic_name, true);
    end
    $fn$;
    comment on function realtime.broadcast_changes is 'Sends a changed row to a private channel, from a trigger for each row.';
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('function', 'realtime.broadcast_changes(text, text, text, text, text, record, record, text)', 'drop function if exists realtime.broadcast_changes(text, text, text, text, text, record, record, text)');
  end if;
end
$do$;
