-- Module: channels
-- Servers on this database, and their leases.

-- No foreign keys to auth.users anywhere: tokens may come from an issuer that keeps its accounts elsewhere.
create table rollcall_internal.nodes (
  id uuid primary key,
  started_at timestamptz not null default now(),
  renewed_at timestamptz not null default now(),
  lease_expires_at timestamptz not null
);
comment on table rollcall_internal.nodes is
  'Servers that hold sockets. The lease of a node stands for the liveness of all its devices.';
-- No policies for users: only servers and service_role need nodes.
alter table rollcall_internal.nodes enable row level security;
create policy "service_role has full access" on rollcall_internal.nodes
  for all to service_role using (true) with check (true);
revoke all on rollcall_internal.nodes from anon, authenticated, service_role;
grant all on rollcall_internal.nodes to service_role;

-- Invoker: the policies on rollcall_internal.nodes decide.
create view rollcall.presence_nodes with (security_invoker = true) as
  select n.id, n.started_at, n.renewed_at, n.lease_expires_at from rollcall_internal.nodes n;
comment on view rollcall.presence_nodes is
  'Servers that hold sockets. The lease of a node stands for the liveness of all its devices.';
revoke all on rollcall.presence_nodes from anon, authenticated, service_role;
grant all on rollcall.presence_nodes to service_role;

-- Definer: only the server reads nodes. A random id of a node reveals nothing.
create function rollcall.any_node_lives(p_nodes uuid[]) returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from rollcall_internal.nodes n where n.id = any (p_nodes) and n.lease_expires_at > clock_timestamp()
  )
$$;
comment on function rollcall.any_node_lives is 'Whether one of these nodes holds a lease.';
grant execute on function rollcall.any_node_lives to authenticated, service_role;

-- After an expired lease other nodes may have swept the node's devices, so it must report all its sockets again.
-- Definer: only the server writes nodes.
-- Without a search_path of its own: it fires triggers of users. check_search_path protects it.
create function rollcall_internal.renew_lease(p_node uuid, p_lease interval) returns boolean
  language plpgsql volatile security definer
as $$
declare
  v_search_path constant pg_catalog.text := rollcall_internal.check_search_path();
begin
  update rollcall_internal.nodes set renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + p_lease
    where id = p_node and lease_expires_at > clock_timestamp();
  if found then
    return true;
  end if;
  insert into rollcall_internal.nodes (id, renewed_at, lease_expires_at)
    values (p_node, clock_timestamp(), clock_timestamp() + p_lease)
    on conflict (id) do update set renewed_at = excluded.renewed_at, lease_expires_at = excluded.lease_expires_at;
  return false;
end
$$;
comment on function rollcall_internal.renew_lease is
  'Takes or renews the lease of a node; false when it had none or it had expired.';
