-- Removes Rollcall: its schemas, and what the installation created outside of them, in reverse order. What other objects
-- still use (a role with grants, a function that a policy calls) stays and is in pg_temp.rollcall_kept. Fails, and changes
-- nothing, where views, policies, columns or functions of others depend on Rollcall.

-- One row per statement that was not possible, with the reason.
create temp table rollcall_kept (statement text not null, reason text not null) on commit drop;

do $down$
declare
  v_dependents text;
  v_undo text[];
  v_kept text[];
  v_reasons jsonb := '{}';
  v_statement text;
begin
  if to_regclass('rollcall_internal.installed_objects') is null then
    raise exception 'Rollcall is not installed in this database' using errcode = 'undefined_object';
  end if;

  -- Objects without a schema belong to a table: triggers, policies, rules, constraints and defaults.
  with ours as (
    select 'pg_class'::regclass as classid, c.oid from pg_class c
      where c.relnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
    union all
    select 'pg_proc'::regclass, p.oid from pg_proc p
      where p.pronamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
    union all
    select 'pg_type'::regclass, t.oid from pg_type t
      where t.typnamespace in ('rollcall'::regnamespace, 'rollcall_internal'::regnamespace)
  ),
  dependent as (
    select distinct d.classid, d.objid, d.objsubid,
      case d.classid
        when 'pg_rewrite'::regclass then (select r.ev_class from pg_rewrite r where r.oid = d.objid)
        when 'pg_policy'::regclass then (select p.polrelid from pg_policy p where p.oid = d.objid)
        when 'pg_trigger'::regclass then (select t.tgrelid from pg_trigger t where t.oid = d.objid)
        when 'pg_constraint'::regclass then (select nullif(c.conrelid, 0) from pg_constraint c where c.oid = d.objid)
        when 'pg_attrdef'::regclass then (select a.adrelid from pg_attrdef a where a.oid = d.objid)
        when 'pg_class'::regclass then d.objid
      end as relation,
      -- Of a constraint of a domain.
      case d.classid
        when 'pg_constraint'::regclass then (select c.contypid from pg_constraint c where c.oid = d.objid)
        when 'pg_type'::regclass then d.objid
      end as type
    from ours o
    join pg_depend d on d.refclassid = o.classid and d.refobjid = o.oid and d.deptype = 'n'
  )
  select pg_catalog.string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', '
      order by pg_describe_object(d.classid, d.objid, d.objsubid)) into v_dependents
  from dependent d
  where not exists (select from ours o where o.classid = d.classid and o.oid = d.objid)
    and not exists (select from ours o where o.classid = 'pg_class'::regclass and o.oid = d.relation)
    and not exists (select from ours o where o.classid = 'pg_type'::regclass and o.oid = d.type)
    and d.relation is distinct from to_regclass('realtime.presence')
    -- Ours, on tables of the application and on the database.
    and not (d.classid = 'pg_trigger'::regclass
      and (select t.tgname from pg_trigger t where t.oid = d.objid) like 'rollcall\_%')
    and not (d.classid = 'pg_event_trigger'::regclass
      and (select e.evtname from pg_event_trigger e where e.oid = d.objid) like 'rollcall\_%');
  if v_dependents is not null then
    raise exception 'other objects depend on Rollcall: %', v_dependents
      using errcode = 'dependent_objects_still_exist', hint = 'Drop them first.';
  end if;

  v_undo := array(select o.undo from rollcall_internal.installed_objects o order by o.id desc);
  -- Takes along the triggers on followed tables and the event triggers.
  drop schema rollcall, rollcall_internal cascade;
  -- Again as long as something goes, because the order need not fit what was created since.
  loop
    v_kept := '{}';
    foreach v_statement in array v_undo loop
      begin
        execute v_statement;
      exception when dependent_objects_still_exist or insufficient_privilege or object_in_use or undefined_object
        or invalid_schema_name
      then
        v_kept := v_kept || v_statement;
        v_reasons := v_reasons || pg_catalog.jsonb_build_object(v_statement, sqlerrm);
      end;
    end loop;
    exit when pg_catalog.cardinality(v_kept) in (0, pg_catalog.cardinality(v_undo));
    v_undo := v_kept;
  end loop;
  foreach v_statement in array v_kept loop
    insert into pg_temp.rollcall_kept (statement, reason) values (v_statement, v_reasons ->> v_statement);
  end loop;
end
$down$;
