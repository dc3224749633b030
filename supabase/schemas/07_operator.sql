-- Module: channels
-- What operators do: the audit log, requests between nodes, and closing one connection.

create table rollcall_internal.operator_audit (
  id bigint generated always as identity constraint operator_audit_pkey primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  role text not null,
  login text not null,
  action text not null constraint operator_audit_action_is_known
    check (action in ('disconnect_user', 'disconnect_device', 'disconnect_connection', 'publish', 'watch_connection')),
  user_id uuid,
  target jsonb not null,
  reason text,
  request_id text
);
comment on table rollcall_internal.operator_audit is 'The rows of rollcall.operator_audit.';
comment on column rollcall_internal.operator_audit.actor is
  'sub of the token; without one its role, and in psql the login.';
comment on column rollcall_internal.operator_audit.role is 'role of the token, or the login.';
comment on column rollcall_internal.operator_audit.login is 'Login of the database session.';
comment on column rollcall_internal.operator_audit.user_id is
  'The user whom the action concerns, if it concerns one.';
comment on column rollcall_internal.operator_audit.target is
  'What the action was applied to. Never a payload or a token.';
comment on column rollcall_internal.operator_audit.request_id is
  'x-request-id of the HTTP request.';
create index operator_audit_user_id_idx on rollcall_internal.operator_audit (user_id) where user_id is not null;
-- Rows are written by record_action and deleted by the retention only.
alter table rollcall_internal.operator_audit enable row level security;
create policy "service_role reads" on rollcall_internal.operator_audit for select to service_role using (true);
revoke all on rollcall_internal.operator_audit from anon, authenticated, service_role;
grant select on rollcall_internal.operator_audit to service_role;

-- Invoker: the policies on rollcall_internal.operator_audit decide.
create view rollcall.operator_audit with (security_invoker = true) as
  select a.id, a.at, a.actor, a.role, a.login, a.action, a.user_id, a.target, a.reason, a.request_id
  from rollcall_internal.operator_audit a;
comment on view rollcall.operator_audit is
  'Actions of operators, one row for each attempt, written in the transaction of the action. No role of the API may '
  'change or delete rows; rollcall.retention says how long they are kept.';
revoke all on rollcall.operator_audit from anon, authenticated, service_role;
grant select on rollcall.operator_audit to service_role;

-- Called by functions for operators, in their transaction.
-- Definer: appends to a table that no role of the API may write.
create function rollcall_internal.record_action(p_action text, p_user uuid, p_target jsonb, p_reason text)
  returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_claims constant jsonb := rollcall_internal.jsonb_or_null(current_setting('request.jwt.claims', true));
  v_headers constant jsonb := rollcall_internal.jsonb_or_null(current_setting('request.headers', true));
  v_role constant text := coalesce(v_claims ->> 'role', session_user);
  v_id bigint;
begin
  insert into rollcall_internal.operator_audit (actor, role, login, action, user_id, target, reason, request_id)
  values (coalesce(v_claims ->> 'sub', v_role), v_role, session_user, p_action, p_user, p_target, p_reason,
    left(coalesce(nullif(current_setting('rollcall.request_id', true), ''), v_headers ->> 'x-request-id'), 64))
  returning id into v_id;
  return v_id;
end
$$;
comment on function rollcall_internal.record_action is 'Adds a row to the audit log; returns its ID.';

-- Called by purge_expired.
-- Definer: deletes from a table that no role of the API may write.
create function rollcall_internal.purge_operator_audit(p_before timestamptz, p_limit int) returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  delete from rollcall_internal.operator_audit a where a.id in (
    select old.id from rollcall_internal.operator_audit old where old.at < p_before order by old.id limit p_limit);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function rollcall_internal.purge_operator_audit is
  'Deletes rows of the audit log from before a time, at most p_limit; returns how many.';

-- The reason is sent in a close frame.
-- Invoker: only raises.
create function rollcall_internal.check_close_reason(p_reason text) returns void
  language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp
as $$
begin
  if octet_length(p_reason) > 123 then
    raise exception 'the reason is longer than 123 bytes' using errcode = 'string_data_right_truncation';
  end if;
end
$$;
comment on function rollcall_internal.check_close_reason is
  'Raises an error if a reason does not fit into a close frame.';

-- Requests of operators to nodes, and the answers: what a node holds is in its memory only.

-- NOTIFY carries the id, the content stays here for a minute. Unlogged: after a crash nobody waits for an answer.
create unlogged table rollcall_internal.node_messages (
  id bigint generated always as identity constraint node_messages_pkey primary key,
  request uuid not null,
  sender uuid,
  recipient uuid,
  is_answer boolean not null,
  body text not null constraint node_messages_body_is_bounded check (octet_length(body) <= 1048576),
  posted_at timestamptz not null default clock_timestamp()
);
comment on table rollcall_internal.node_messages is
  'Requests of operators to nodes, and answers. Each node reads its own once; kept for a minute. Unlogged.';
comment on column rollcall_internal.node_messages.sender is 'The node that waits for answers, or that answers.';
comment on column rollcall_internal.node_messages.recipient is 'Null for every node but the sender.';
-- No policies: only the server reads it.
alter table rollcall_internal.node_messages enable row level security;

-- Definer: writes a table that no role of the API may write.
create function rollcall_internal.post_to_nodes(p_request uuid, p_sender uuid, p_recipient uuid, p_is_answer boolean,
  p_body text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  delete from rollcall_internal.node_messages m where m.id in (
    select old.id from rollcall_internal.node_messages old
    where old.posted_at < clock_timestamp() - interval '1 minute' limit 100 for update skip locked);
  insert into rollcall_internal.node_messages (request, sender, recipient, is_answer, body)
  values (p_request, p_sender, p_recipient, p_is_answer, p_body)
  returning id into v_id;
  perform rollcall_internal.notify_directly('rollcall_nodes', v_id::text);
end
$$;
comment on function rollcall_internal.post_to_nodes is 'Sends a request or an answer to a node, or a request to all.';

-- Closes with code 4403. The server passes the node that waits for the result, and the ID of its request.
-- Definer: writes the audit log and messages to nodes; service_role only.
create function rollcall.disconnect_connection(p_connection text,
  p_reason text default 'disconnected by an administrator', p_request uuid default null, p_answer_to uuid default null)
  returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_node uuid;
begin
  perform rollcall_internal.check_close_reason(p_reason);
  if p_connection !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.[0-9]{1,10}){3}$' then
    raise exception 'p_connection is not the ID of a connection' using errcode = 'invalid_text_representation';
  end if;
  v_node := split_part(p_connection, '.', 1);
  perform rollcall_internal.record_action('disconnect_connection', null,
    jsonb_build_object('connection_id', p_connection), p_reason);
  perform rollcall_internal.post_to_nodes(coalesce(p_request, gen_random_uuid()), p_answer_to, v_node, false,
    json_build_object('disconnect', json_build_object('connection', p_connection, 'reason', p_reason))::text);
  return exists (
    select from rollcall_internal.nodes n where n.id = v_node and n.lease_expires_at > clock_timestamp());
end
$$;
comment on function rollcall.disconnect_connection is
  'Closes one connection, named by its ID in the operator API; returns whether its node lives.';
grant execute on function rollcall.disconnect_connection to service_role;

-- For actions without a function of their own that is definer.
-- Definer: appends to a table that no role of the API may write; service_role only.
create function rollcall.record_operator_action(p_action text, p_target jsonb, p_reason text default null)
  returns bigint
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if p_action is null or p_action not in ('publish', 'watch_connection') then
    raise exception 'p_action must be publish or watch_connection' using errcode = 'invalid_parameter_value';
  end if;
  return rollcall_internal.record_action(p_action, null, p_target, p_reason);
end
$$;
comment on function rollcall.record_operator_action is
  'First half of publish, and of watching a connection in the operator API: adds a row to the audit log.';
grant execute on function rollcall.record_operator_action to service_role;

-- realtime.send stores the message and delivers it on every node. It reports errors as warnings only.
-- Invoker: the rights of the calling role on realtime.messages decide.
-- Without a search_path of its own: it fires triggers of users.
create function rollcall.publish(p_topic text, p_event text, p_payload jsonb, p_private boolean default true,
  p_reason text default null) returns void
  language plpgsql volatile security invoker
as $$
begin
  if pg_catalog.jsonb_typeof(p_payload) is distinct from 'object' then
    raise exception 'p_payload must be a JSON object' using errcode = 'invalid_parameter_value';
  end if;
  perform rollcall.record_operator_action('publish',
    pg_catalog.jsonb_build_object('topic', p_topic, 'event', p_event, 'private', p_private), p_reason);
  perform realtime.send(p_payload, p_event, p_topic, p_private);
end
$$;
comment on function rollcall.publish is
  'Sends a broadcast to a channel as an operator: realtime.send with a row in the audit log.';
grant execute on function rollcall.publish to service_role;
