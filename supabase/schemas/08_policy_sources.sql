-- Module: channels
-- Which tables policies depend on, for private channels and for visibility.

-- Tables that policies name (by pg_depend), that functions with a parsed body name, whose names occur in the text of
-- any other function they call, directly or indirectly, and partitions of all these. The result may contain too many
-- tables; it lacks one only where a function builds a name at run time. Functions in the schemas p_closed are not
-- examined.
-- Definer: reads catalogs only.
-- Over 60 lines: one recursive statement.
create function rollcall_internal.policy_sources(p_tables regclass[], p_closed text[]) returns setof regclass
  language sql stable security definer set search_path = ''
as $$
  with recursive
  needed (classid, objid) as (
    select d.refclassid, d.refobjid
    from pg_catalog.pg_policy p
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = any (p_tables)
      and d.refobjid <> p.polrelid
    union
    select following.refclassid, following.refobjid
    from needed n
    cross join lateral (
      select d.refclassid, d.refobjid
      from pg_catalog.pg_depend d
      where n.classid = 'pg_catalog.pg_proc'::regclass and d.classid = n.classid and d.objid = n.objid
      union
      -- A view stands for the tables that it reads.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_rewrite r
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and r.ev_class = n.objid and d.refobjid <> n.objid
      union
      -- Row-level security of a table that a policy reads counts as well.
      select d.refclassid, d.refobjid
      from pg_catalog.pg_policy p
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
      where n.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = n.objid
      union
      -- A statement on a partition or child does not fire the triggers of its parent.
      select 'pg_catalog.pg_class'::regclass, i.inhrelid
      from pg_catalog.pg_inherits i
      where n.classid = 'pg_catalog.pg_class'::regclass and i.inhparent = n.objid
      union
      select named.classid, named.objid
      from pg_catalog.pg_proc f
      join (
        select 'pg_catalog.pg_class'::regclass, c.oid, c.relname, c.relnamespace, '($|[^a-z0-9_])'
        from pg_catalog.pg_class c where c.relkind in ('r', 'p', 'v', 'm')
        union all
        select 'pg_catalog.pg_proc'::regclass, g.oid, g.proname, g.pronamespace, '"?\s*\(' from pg_catalog.pg_proc g
      ) named (classid, objid, name, namespace, ending)
        on position(lower(named.name) in lower(f.prosrc)) > 0
        and f.prosrc ~* ('(^|[^a-z0-9_])' || regexp_replace(named.name, '([^a-z0-9_])', '\\\1', 'gi') || named.ending)
      join pg_catalog.pg_namespace s on s.oid = named.namespace
        and s.nspname !~ '^pg_' and s.nspname not in ('information_schema', 'rollcall_internal')
        -- Tables of Rollcall count, its functions only where they are to be examined.
        and (s.nspname <> all (p_closed) or s.nspname = 'rollcall' and named.classid = 'pg_catalog.pg_class'::regclass)
      where n.classid = 'pg_catalog.pg_proc'::regclass and f.oid = n.objid
        and f.prosqlbody is null
        and f.pronamespace not in (
          select own.oid from pg_catalog.pg_namespace own where own.nspname = 'pg_catalog'
            or own.nspname = any (p_closed))
    ) following
    where following.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
  )
  select distinct c.oid::regclass
  from needed n
  join pg_catalog.pg_class c on n.classid = 'pg_catalog.pg_class'::regclass and c.oid = n.objid
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace
  where c.relkind in ('r', 'p')
    and s.nspname not in ('rollcall_internal', 'pg_catalog', 'information_schema')
    and (s.nspname = 'rollcall' or s.nspname <> all (p_closed))
$$;
comment on function rollcall_internal.policy_sources is 'Tables that the policies on some tables depend on.';
