-- Three tables with the same rows under three policies, and the check that Supabase Realtime runs: for each change and
-- each subscriber it sets the role and claims, and a prepared statement queries the row.
create table public.bench_open (id bigint primary key, user_id uuid, room int, body text);
create table public.bench_own (like public.bench_open including all);
create table public.bench_rooms (like public.bench_open including all);
create table public.bench_members (room int, user_id uuid, primary key (user_id, room));
alter table public.bench_own enable row level security;
alter table public.bench_rooms enable row level security;
create policy own on public.bench_own for select to authenticated using (user_id = auth.uid());
create policy rooms on public.bench_rooms for select to authenticated
  using (room in (select m.room from public.bench_members m where m.user_id = auth.uid()));
grant select on public.bench_open, public.bench_own, public.bench_rooms, public.bench_members to authenticated;
alter publication supabase_realtime add table public.bench_open, public.bench_own, public.bench_rooms;

create function public.bench_per_subscriber(p_table text, p_ids bigint[], p_users uuid[]) returns bigint
  language plpgsql
as $$
declare
  v_id bigint;
  v_user uuid;
  v_seen boolean;
  v_count bigint := 0;
begin
  foreach v_id in array p_ids loop
    execute format('prepare bench_visible as select exists (select from public.%I where id = %s)', p_table, v_id);
    foreach v_user in array p_users loop
      perform set_config('role', 'authenticated', true),
        set_config('request.jwt.claims', json_build_object('role', 'authenticated', 'sub', v_user)::text, true);
      execute 'execute bench_visible' into v_seen;
      v_count := v_count + v_seen::int;
    end loop;
    perform set_config('role', 'none', true);
    deallocate bench_visible;
  end loop;
  return v_count;
end
$$;
