-- What nodes of one database tell each other: broadcasts of rooms, on their way to sockets of other nodes.
-- Invariant: at most once, in the order of each node. Who was not listening has missed it; state does not travel here.

create sequence rollcall.bus_id;

-- Three parts take turns every twenty seconds; the one that is oldest is emptied as a whole, which costs nothing a row.
create table rollcall.bus (
  id bigint not null default nextval('rollcall.bus_id'),
  slot smallint not null,
  payload bytea not null
) partition by list (slot);
comment on table rollcall.bus is
  'What nodes tell each other: an entry holds many messages. Read once by each other node; kept for half a minute.';
create unlogged table rollcall.bus_0 partition of rollcall.bus (constraint bus_0_pkey primary key (id)) for values in (0);
create unlogged table rollcall.bus_1 partition of rollcall.bus (constraint bus_1_pkey primary key (id)) for values in (1);
create unlogged table rollcall.bus_2 partition of rollcall.bus (constraint bus_2_pkey primary key (id)) for values in (2);
comment on table rollcall.bus_0 is 'A third of rollcall.bus.';
comment on table rollcall.bus_1 is 'A third of rollcall.bus.';
comment on table rollcall.bus_2 is 'A third of rollcall.bus.';
-- No policies: only the server reads and writes what rooms say.
alter table rollcall.bus enable row level security;
alter table rollcall.bus_0 enable row level security;
alter table rollcall.bus_1 enable row level security;
alter table rollcall.bus_2 enable row level security;

-- Which part takes what comes now. Definer: called by definers only.
create function rollcall.bus_slot() returns smallint
  language sql volatile security definer set search_path = ''
as $$
  select (floor(extract(epoch from clock_timestamp()) / 20)::bigint % 3)::smallint
$$;

-- Tells the other nodes something. NOTIFY carries where it stands, never what it says: anybody may LISTEN.
-- Definer: the bus is the server's.
create function rollcall.post_to_bus(p_node uuid, p_payload bytea) returns void
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_slot constant smallint := rollcall.bus_slot();
  v_id bigint;
begin
  -- It does not outlive a crash anyway.
  perform set_config('synchronous_commit', 'off', true);
  insert into rollcall.bus (slot, payload) values (v_slot, p_payload) returning id into v_id;
  perform pg_notify('rollcall_bus', concat_ws(' ', p_node, v_slot, v_id));
end
$$;

-- Empties the part that is next, in the first half of a turn: what is in it is 40 seconds old by then, and nothing can be
-- written to it yet. Somebody who reads it all the same makes it wait for the next time. Returns whether it did.
-- Definer: the bus is the server's.
create function rollcall.tidy_bus() returns boolean
  language plpgsql volatile security definer set search_path = '' set lock_timeout = '50ms'
as $$
declare
  v_next constant int := (rollcall.bus_slot() + 1) % 3;
begin
  if extract(epoch from clock_timestamp())::numeric % 20 > 10
    or not pg_try_advisory_xact_lock(hashtextextended('rollcall.tidy_bus', 0))
  then
    return false;
  end if;
  perform set_config('synchronous_commit', 'off', true);
  execute format('truncate rollcall.bus_%s', v_next);
  return true;
exception when lock_not_available then
  return false;
end
$$;

revoke execute on all functions in schema rollcall from public;
