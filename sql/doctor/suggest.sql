-- Declarations of rollcall.use_table for tables of the application. Reads catalogs only; changes nothing.
-- Returns one row per table in the shape of a relation, best first: statement text (SQL), reason text (for people).
-- Users are rows of auth.users, of a table whose primary key references it, or of a table named like profiles.
with
-- Foreign keys of one column.
reference as (
  select c.conrelid as source, c.conkey[1] as attnum, c.confrelid as target, c.confkey[1] as target_attnum
  from pg_constraint c
  where c.contype = 'f' and cardinality(c.conkey) = 1
),
primary_column as (
  select i.indrelid as source, i.indkey[0] as attnum
  from pg_index i where i.indisprimary and i.indnkeyatts = 1
),
people as (
  select to_regclass('auth.users')::oid as id where to_regclass('auth.users') is not null
  union
  select p.source from primary_column p
  join reference r on r.source = p.source and r.attnum = p.attnum and r.target = to_regclass('auth.users')
  union
  select p.source from primary_column p
  join pg_class c on c.oid = p.source
  join pg_attribute a on a.attrelid = p.source and a.attnum = p.attnum
  where c.relname ~* '^(app_?)?(user|profile|account|person|people|member)s?(_?profiles?)?$'
    and a.atttypid in ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype)
),
candidate as (
  select c.oid as source, c.relname as name, format('%I.%I', n.nspname, c.relname) as qualified
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and not c.relispartition
    and n.nspname !~ '^pg_' and n.nspname <> all (array['information_schema', 'rollcall', 'rollcall_internal', 'auth',
      'realtime', 'storage', 'extensions', 'vault', 'graphql', 'supabase_migrations', 'cron', 'net'])
),
-- Columns that refer to a user.
user_column as (
  select r.source, a.attname as name, a.attnum, row_number() over (partition by r.source order by a.attnum) as place,
    count(*) over (partition by r.source) as number, r.target
  from reference r
  join people p on p.id = r.target
  join candidate k on k.source = r.source
  join pg_attribute a on a.attrelid = r.source and a.attnum = r.attnum
  where a.atttypid in ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype)
    -- Who created or changed a row is no member of it.
    and a.attname !~* '(created|updated|invited|added|deleted|approved|assigned)_?by'
),
-- Columns that refer to something else.
group_column as (
  select r.source, a.attname as name, a.attnum, t.relname as target,
    count(*) over (partition by r.source) as number
  from reference r
  join candidate k on k.source = r.source
  join pg_class t on t.oid = r.target
  join pg_attribute a on a.attrelid = r.source and a.attnum = r.attnum
  where r.target not in (select p.id from people p)
),
-- Columns by which a row does not count yet, or any more.
condition as (
  select a.attrelid as source, string_agg(test.expression, ' and ' order by a.attnum) as expression
  from pg_attribute a
  join candidate k on k.source = a.attrelid
  join pg_type t on t.oid = a.atttypid
  cross join lateral (
    select case
      when a.attname ~* '^(status|state)$' and (
          exists (select from pg_enum e where e.enumtypid = t.oid and e.enumlabel = 'accepted')
          or exists (select from pg_constraint c where c.conrelid = a.attrelid and c.contype = 'c'
            and pg_get_constraintdef(c.oid) like '%''accepted''%'))
        then format('%I = ''accepted''', a.attname)
      when a.attname ~* '^(accepted|confirmed|approved)_?at$' then format('%I is not null', a.attname)
      when a.attname ~* '^(deleted|removed|left|revoked|ended)_?at$' then format('%I is null', a.attname)
      when t.oid = 'bool'::regtype and a.attname ~* '^(is_?)?(accepted|confirmed|approved)$' then format('%I', a.attname)
      when t.oid = 'bool'::regtype and a.attname ~* '^(is_?)?(deleted|removed)$' then format('not %I', a.attname)
    end as expression
  ) test
  where a.attnum > 0 and not a.attisdropped and test.expression is not null
  group by a.attrelid
),
proposal as (
  select k.*, case when k.name ~* 'block|mute|ignore' then 'blocks' else 'contacts' end as relation,
    one.name as user_name, other.name as other_name, null::name as group_name,
    k.name ~* 'block|mute|ignore|friend|contact|follow|connection|budd' as certain,
    'each row names two users' as reason
  from candidate k
  join user_column one on one.source = k.source and one.place = 1 and one.number = 2
  join user_column other on other.source = k.source and other.place = 2
  where not exists (select from group_column g where g.source = k.source)
  union all
  select k.*,
    case when k.name || g.target ~* 'room|chat|channel|conversation|thread|dialog|lobb|match|party' then 'participants'
      else 'team_members' end,
    u.name, null, g.name, true, format('each row makes a user a member of %I', g.target)
  from candidate k
  join user_column u on u.source = k.source and u.number = 1
  join group_column g on g.source = k.source and g.number = 1
  -- A user is a member of a group once; messages and the like are no memberships.
  where exists (
    select from pg_index i
    where i.indrelid = k.source and i.indisunique and i.indnkeyatts = 2
      and (i.indkey[0], i.indkey[1]) in ((u.attnum, g.attnum), (g.attnum, u.attnum)))
)
select
  format('select rollcall.use_table(%L, %L, %suser_column => %L%s%s);', p.relation, p.qualified,
    coalesce('group_column => ' || quote_literal(p.group_name) || ', ', ''), p.user_name,
    coalesce(', other_column => ' || quote_literal(p.other_name), ''),
    coalesce(', condition => $$' || c.expression || '$$', '')) as statement,
  format('%s: %s', p.qualified, p.reason) as reason
from proposal p
left join condition c on c.source = p.source
where p.certain
  and not exists (select from rollcall.used_tables u where u.relation = p.relation and not u.built_in)
order by array_position(array['contacts', 'blocks', 'team_members', 'participants'], p.relation), p.qualified
