-- Declarations of rollcall.watch for tables whose changes make Rollcall ask every connected viewer. Reads catalogs only;
-- changes nothing. Returns statement text (SQL), reason text (for people).
-- The columns are found in the text of policies on user_presence: one that is compared with auth.uid(), and one that is
-- compared with the user shown. Tables that views or functions read are left out, as are tables whose policies name
-- different columns.
with
followed as (
  select t.tgrelid as source, format('%I.%I', n.nspname, c.relname) as qualified
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
  join pg_namespace n on n.oid = c.relnamespace
  where t.tgname = 'rollcall_watch' and t.tgfoid = 'rollcall_internal.on_watched_table_changed()'::regprocedure
    -- Null if the text of a function names the table.
    and rollcall_internal.columns_in_policies('visibility', t.tgrelid) is not null
    and not exists (
      select from pg_depend d
      where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = t.tgrelid)
),
reading as (
  select distinct f.source, f.qualified, p.polname as policy, pg_get_expr(p.polqual, p.polrelid) as expression
  from followed f
  join pg_depend d on d.classid = 'pg_policy'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = f.source
  join pg_policy p on p.oid = d.objid
  where p.polrelid = 'rollcall.user_presence'::regclass and p.polcmd in ('r', '*')
),
compared as (
  select r.source, r.qualified, r.policy,
    array_agg(a.attname order by a.attnum) filter (where r.expression ~ format(
      '%1$s = (\( SELECT )?(auth\.)?uid\(\)|(auth\.)?uid\(\)( AS uid\))? = %1$s', v.pattern)) as viewers,
    array_agg(a.attname order by a.attnum) filter (where r.expression ~ format(
      '%1$s = user_presence\.user_id|user_presence\.user_id = %1$s|\muser_id IN \( SELECT %1$s', v.pattern)) as subjects
  from reading r
  join pg_attribute a on a.attrelid = r.source and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype
  -- The column, with the table or its alias before it.
  cross join lateral (
    select format('(?<![\w".])((\w+|"[^"]+")\.)?%s(?![\w"])', regexp_replace(quote_ident(a.attname), '(\W)', '\\\1', 'g'))
      as pattern
  ) v
  group by r.source, r.qualified, r.policy
),
proposal as (
  select c.source, c.qualified, min(c.viewers[1]) as viewer, min(c.subjects[1]) as subject,
    string_agg(format('%I', c.policy), ', ' order by c.policy) as policies
  from compared c
  group by c.source, c.qualified
  having bool_and(cardinality(c.viewers) = 1 and cardinality(c.subjects) = 1)
    and count(distinct (c.viewers, c.subjects)) = 1
    and count(*) = (select count(*) from reading r where r.source = c.source)
)
select
  format('select rollcall.watch(%L, %L, %L);', p.qualified, p.viewer, p.subject) as statement,
  format('%s: each change asks every connected viewer. If a row concerns only its %I and its %I, ask only these (%s)',
    p.qualified, p.viewer, p.subject, p.policies) as reason
from proposal p
where p.viewer <> p.subject
order by p.qualified
