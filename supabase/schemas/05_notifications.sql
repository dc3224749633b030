-- Module: channels
-- How the database notifies nodes. A notification says which rows to read; it never carries content. Every login of the
-- database may LISTEN and NOTIFY, so payloads are authenticated, and IDs of users in them are masked.
-- src/pg/notification.rs reads what these functions send.

create table rollcall_internal.notification_key (
  singleton boolean not null default true constraint notification_key_pkey primary key check (singleton),
  key bytea not null default sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
);
comment on table rollcall_internal.notification_key is
  'The key that authenticates notifications and masks IDs in them. Nodes read it when they connect.';
-- No policies: for the functions below and the server.
alter table rollcall_internal.notification_key enable row level security;
insert into rollcall_internal.notification_key default values;

-- Invoker: computes a random value.
create function rollcall_internal.notification_nonce() returns text
  language sql volatile security invoker set search_path = ''
as $$
  select left(replace(gen_random_uuid()::text, '-', ''), 16)
$$;
comment on function rollcall_internal.notification_nonce is 'A random value that is used for one notification.';

-- Values are at most 32 bytes in hexadecimal. Each is combined with a hash of the key, the nonce and its number.
-- Definer: reads the key.
create function rollcall_internal.mask(p_nonce text, p_values text[]) returns text[]
  language sql stable security definer set search_path = ''
as $$
  select array_agg(encode(substr(varbit_send(('x' || value.hex)::varbit # ('x' || left(
      encode(sha256(k.key || convert_to(p_nonce || '#' || value.number, 'UTF8')), 'hex'), length(value.hex)))::varbit
    ), 5), 'hex') order by value.number)
  from rollcall_internal.notification_key k
  cross join unnest(p_values) with ordinality as value (hex, number)
$$;
comment on function rollcall_internal.mask is 'Values of a notification, unreadable without the key.';

-- Invoker: see mask.
create function rollcall_internal.mask_ids(p_nonce text, p_ids uuid[]) returns text[]
  language sql stable security invoker set search_path = ''
as $$
  select rollcall_internal.mask(p_nonce, array(
    select replace(ids.id::text, '-', '') from unnest(p_ids) with ordinality as ids (id, number) order by ids.number))
$$;
comment on function rollcall_internal.mask_ids is 'IDs of a notification, unreadable without the key.';

-- Payload: `<code>.<nonce>.<body>`. The default nonce is the transaction, so that equal bodies of one transaction are
-- sent once. A body with masked values needs the nonce of the mask.
-- Definer: reads the key; called from triggers of any writer.
create function rollcall_internal.notify(p_channel text, p_body text, p_nonce text default null) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_nonce constant text := coalesce(p_nonce, pg_current_xact_id()::text);
  v_key bytea;
begin
  select k.key into strict v_key from rollcall_internal.notification_key k;
  perform pg_notify(p_channel, concat(
    left(encode(sha256(v_key || sha256(v_key || convert_to(concat(p_channel, ':', v_nonce, ':', p_body), 'UTF8'))),
      'hex'), 16),
    '.', v_nonce, '.', p_body));
end
$$;
comment on function rollcall_internal.notify is 'Sends an authenticated notification to the nodes.';

-- Invoker: computes from the clock.
create function rollcall_internal.notification_time() returns bigint
  language sql volatile security invoker set search_path = ''
as $$
  select (extract(epoch from clock_timestamp()) * 1000)::bigint
$$;
comment on function rollcall_internal.notification_time is
  'Now, in milliseconds since 1970. The server measures the delay of notifications by it.';
