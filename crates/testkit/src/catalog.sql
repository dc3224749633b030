-- What a database holds besides the system's objects: one line per object, privilege, comment and setting, and one per
-- table with a hash of its rows. Equal databases give equal lines.
-- Takes the place of pg_dump where that is older than the server. Returns one row: lines text[].
with class as (
  select c.* from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname !~ '^pg_temp'
),
-- Without OIDs, which differ for an object that the project itself drops and creates again.
object (classid, oid, subid, details) as (
  select 'pg_namespace'::regclass, n.oid, 0, format('owner %s', n.nspowner::regrole) from pg_namespace n
    where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname !~ '^pg_(toast_)?temp'
  union all select 'pg_class'::regclass, c.oid, 0, concat_ws(' ', c.relowner::regrole, c.relpersistence, c.relreplident,
      c.relrowsecurity, c.relforcerowsecurity, c.relispartition, c.reloptions, pg_get_expr(c.relpartbound, c.oid),
      case when c.relkind in ('i', 'I') then pg_get_indexdef(c.oid) end)
    from class c
  union all select 'pg_class'::regclass, a.attrelid, a.attnum, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
      a.attnotnull, a.attstorage, a.attcompression, a.attidentity, a.attgenerated, a.attcollation, a.attislocal,
      a.attinhcount, a.attoptions)
    from pg_attribute a join class c on c.oid = a.attrelid where a.attnum > 0 and not a.attisdropped
  union all select 'pg_attrdef'::regclass, d.oid, 0, pg_get_expr(d.adbin, d.adrelid)
    from pg_attrdef d join class c on c.oid = d.adrelid
  union all select 'pg_constraint'::regclass, k.oid, 0, concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated)
    from pg_constraint k where k.oid >= 16384
  union all select 'pg_proc'::regclass, p.oid, 0, concat_ws(' ', p.proowner::regrole,
      case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end)
    from pg_proc p where p.oid >= 16384
  union all select 'pg_type'::regclass, t.oid, 0, concat_ws(' ', t.typowner::regrole, t.typtype, t.typnotnull,
      t.typdefault, nullif(t.typbasetype, 0)::regtype, (select array_agg(e.enumlabel order by e.enumsortorder)
        from pg_enum e where e.enumtypid = t.oid))
    -- Array types follow their element type, also where it is a member of an extension.
    from pg_type t where t.oid >= 16384 and t.typnamespace not in (select oid from pg_namespace where nspname ~ '^pg_')
      and not exists (select from pg_type e where e.typarray = t.oid)
  union all select 'pg_policy'::regclass, p.oid, 0, concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::regrole[],
      pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_policy p
  union all select 'pg_trigger'::regclass, t.oid, 0, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
    from pg_trigger t where not t.tgisinternal
  union all select 'pg_rewrite'::regclass, r.oid, 0, concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled)
    from pg_rewrite r join class c on c.oid = r.ev_class
  union all select 'pg_event_trigger'::regclass, e.oid, 0, concat_ws(' ', e.evtowner::regrole, e.evtevent,
      e.evtfoid::regprocedure, e.evtenabled, e.evttags)
    from pg_event_trigger e
  union all select 'pg_publication'::regclass, p.oid, 0, (to_jsonb(p) - 'oid')::text from pg_publication p
  union all select 'pg_publication_rel'::regclass, p.oid, 0, concat_ws(' ', p.prattrs, pg_get_expr(p.prqual, p.prrelid))
    from pg_publication_rel p
  union all select 'pg_extension'::regclass, e.oid, 0, concat_ws(' ', e.extowner::regrole, e.extversion) from pg_extension e
),
privilege (kind, classid, oid, subid, item) as (
  select 'privilege', 'pg_namespace'::regclass, n.oid, 0, unnest(coalesce(n.nspacl, acldefault('n', n.nspowner)))
    from pg_namespace n
  union all select 'privilege', 'pg_class'::regclass, c.oid, 0,
    unnest(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)))
    from class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  union all select 'privilege', 'pg_class'::regclass, a.attrelid, a.attnum, unnest(a.attacl) from pg_attribute a
    join class c on c.oid = a.attrelid where not a.attisdropped
  union all select 'privilege', 'pg_proc'::regclass, p.oid, 0, unnest(coalesce(p.proacl, acldefault('f', p.proowner)))
    from pg_proc p where p.oid >= 16384
  union all select 'privilege', 'pg_type'::regclass, t.oid, 0, unnest(t.typacl) from pg_type t where t.oid >= 16384
  union all select 'default privilege', 'pg_default_acl'::regclass, d.oid, 0, unnest(d.defaclacl) from pg_default_acl d
),
-- Members of extensions stand for their extension.
member (classid, oid) as (select d.classid, d.objid from pg_depend d where d.deptype = 'e'),
line (line) as (
  select format('%s %s: %s', i.type, i.identity, o.details)
  from object o cross join pg_identify_object(o.classid, o.oid, o.subid) i
  where (o.classid, o.oid) not in (select * from member)
  union all
  select format('%s of %s %s: %s', p.kind, i.type, i.identity, p.item)
  from privilege p cross join pg_identify_object(p.classid, p.oid, p.subid) i
  where i.identity !~ '^"?pg_' and (p.classid, p.oid) not in (select * from member)
  union all
  select format('comment of %s %s: %s', i.type, i.identity, d.description)
  from pg_description d cross join pg_identify_object(d.classoid, d.objoid, d.objsubid) i where d.objoid >= 16384
    and (d.classoid, d.objoid) not in (select * from member)
  union all
  select format('setting of %s: %s', coalesce(nullif(s.setrole, 0)::regrole::text, 'all roles'), entry)
  from pg_db_role_setting s, unnest(s.setconfig) entry
  where s.setdatabase = (select oid from pg_database where datname = current_database())
  union all
  select format('rows of %s: %s', c.oid::regclass, query_to_xml(format(
      'select count(*) as n, md5(string_agg(t::text, chr(10) order by t::text)) as hash from only %s t', c.oid::regclass),
    false, true, '')::text)
  from class c where c.relkind = 'r' and c.oid::regclass::text !~ '^(rollcall|realtime\.messages_)'
)
select array_agg(l.line order by l.line) as lines from line l
