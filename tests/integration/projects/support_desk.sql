-- A support desk whose policies and triggers raise errors: for users without a profile, for topics that are no numbers,
-- and for whole statements. The errors stay with those whom they concern.
--! on supabase
--! users agent customer nobody

create table public.agents (user_id uuid primary key, skills text[] not null default '{}');
create table public.tickets (id bigint primary key, customer_id uuid not null, agent_id uuid, subject text not null, closed_at timestamptz);
create index on public.tickets (customer_id);
create index on public.tickets (agent_id);
create table public.profiles (user_id uuid primary key, plan text not null);
create function public.current_plan() returns text
  language plpgsql stable security definer
as $$
declare
  found_plan text;
begin
  select plan into strict found_plan from profiles where user_id = auth.uid();
  return found_plan;
end
$$;
create function public.require_agent() returns boolean
  language plpgsql stable security definer
as $$
begin
  if not exists (select from agents where user_id = auth.uid()) then
    raise exception 'agents only' using errcode = 'P0403';
  end if;
  return true;
end
$$;
create function public.no_second_ticket() returns trigger language plpgsql as $$
begin
  if new.subject = 'forbidden' then raise exception 'no such ticket' using errcode = 'check_violation'; end if;
  return new;
end
$$;
create trigger no_second_ticket before insert or update on public.tickets for each row execute function public.no_second_ticket();
create function public.notify_desk() returns trigger
  language plpgsql security definer
as $$
begin
  perform realtime.send(jsonb_build_object('ticket', new.id), 'ticket', 'desk', true);
  return null;
end
$$;
create trigger notify_desk after insert on public.tickets for each row execute function public.notify_desk();
alter table public.agents enable row level security;
alter table public.tickets enable row level security;
alter table public.profiles enable row level security;
create policy parties on public.tickets for select to authenticated
  using (auth.uid() in (agent_id, customer_id) and current_plan() is not null);
create policy desk on realtime.messages for all to authenticated
  using (realtime.topic() = 'desk' and require_agent()) with check (realtime.topic() = 'desk' and require_agent());
create policy ticket on realtime.messages for select to authenticated
  using (realtime.topic() like 'ticket:%' and exists (
    select from tickets t where t.id = substring(realtime.topic() from '^ticket:(.*)')::bigint and auth.uid() in (t.agent_id, t.customer_id)));
alter publication supabase_realtime add table public.tickets;
alter table public.tickets replica identity full;
insert into public.agents values (:agent);
insert into public.profiles values (:agent, 'staff'), (:customer, 'free');

--! install
--! channel desk agent rw
--! raises desk customer P0403
--! raises ticket:x customer 22P02

--! changes public.tickets to agent customer
insert into public.tickets values (9, :customer, :agent, 'Printer');

--! channel ticket:9 customer r
--! channel ticket:9 nobody none

select rollcall.use_table('participants', 'tickets', group_column => 'id', user_column => 'customer_id', condition => 'closed_at is null');
select rollcall.use_table('contacts', 'tickets', user_column => 'customer_id', other_column => 'agent_id', condition => 'closed_at is null and 10 / char_length(subject) >= 0');
--! online agent customer
--! sees customer agent
--! hides nobody agent customer
--! types customer 9
--! silent nobody 9

-- The condition raises from here on: nobody is shown, and the application's statement succeeds.
update public.tickets set subject = '';
--! hides customer agent
update public.tickets set subject = 'Printer';
--! sees customer agent
update public.tickets set closed_at = now();
--! hides customer agent
