-- Which users a row of a table that policies read concerns.
begin;
select plan(105);
select tests.as_owner();

create schema app;
create table app.members (user_id uuid, other_id uuid, name text, org int, note text);
create table app.orgs (id int, owner_id uuid);
-- The pairs of viewer and subject of app.members with one policy: `viewer>subject`, `*` for all of them.
create function pg_temp.pairs(p_condition text, p_table regclass default 'app.members', p_join int default 3)
  returns text
  language plpgsql as $$
declare
  v_pairs jsonb;
begin
  execute format('create policy sees on rollcall.user_presence for select to authenticated using (%s)', p_condition);
  v_pairs := rollcall_internal.concerned_columns('visibility', p_table,
    rollcall_internal.columns_in_policies('visibility', p_table));
  drop policy sees on rollcall.user_presence;
  return coalesce((
    select string_agg(coalesce(p.sides ->> 0 || (p.sides ->> p_join),
      format('%s>%s', coalesce(p.sides ->> 0, '*'), coalesce(p.sides ->> 1, '*'))), ' ' order by p.sides)
    from jsonb_array_elements(v_pairs) as p (sides)), 'all');
end
$$;

-- Understood ----------------------------------------------------------------------------------------------------------
select is(pg_temp.pairs(c.condition), c.pairs, c.condition)
from (values
  ('exists (select from app.members m where m.user_id = auth.uid() and m.other_id = user_presence.user_id)',
    'user_id>other_id'),
  ('exists (select from app.members m where (select auth.uid()) = m.user_id and user_presence.user_id = m.other_id)',
    'user_id>other_id'),
  ('exists (select from app.members m where m.user_id = (auth.jwt() ->> ''sub'')::uuid)', 'user_id>*'),
  ('exists (select from app.members m where m.user_id::text = auth.jwt() ->> ''sub'')', 'user_id>*'),
  ('exists (select from app.members m where m.name = (select auth.uid())::text)', 'name>*'),
  ('exists (select from app.members m where m.name = user_presence.user_id::text)', '*>name'),
  ('user_id in (select m.other_id from app.members m where m.user_id = auth.uid())', 'user_id>other_id'),
  ('user_id = any (select m.other_id from app.members m where m.user_id = auth.uid())', 'user_id>other_id'),
  ('user_id = any (array(select m.other_id from app.members m where m.user_id = auth.uid()))', 'user_id>other_id'),
  ('(select auth.uid()) in (select m.user_id from app.members m where m.other_id = user_presence.user_id)',
    'user_id>other_id'),
  ('(select m.note from app.members m where m.user_id = auth.uid() limit 1) = ''x''', 'user_id>*'),
  ('(select count(*) from app.members m where m.user_id = auth.uid() and m.org > 2) > 1', 'user_id>*'),
  ('not exists (select from app.members m where m.user_id = auth.uid() and m.other_id = user_presence.user_id)',
    'user_id>other_id'),
  ('exists (select from app.members m where m.user_id = auth.uid()) or exists (select from app.members m where '
    'm.other_id = user_presence.user_id)', '*>other_id user_id>*'),
  -- Joins.
  ('exists (select from app.members a join app.members b on a.org = b.org where a.user_id = auth.uid() '
    'and b.user_id = user_presence.user_id)', '*>user_id user_id>*'),
  ('exists (select from app.members a join app.members b using (org) where a.user_id = auth.uid() '
    'and b.user_id = user_presence.user_id)', '*>user_id user_id>*'),
  ('exists (select from app.members a, app.orgs o where a.org = o.id and a.user_id = o.owner_id '
    'and o.owner_id = auth.uid())', 'user_id>*'),
  ('exists (select from app.members a join app.orgs o on o.owner_id = a.user_id and o.owner_id = auth.uid())',
    'user_id>*'),
  ('exists (select from app.orgs o left join app.members a on a.org = o.id where a.user_id = auth.uid())', 'user_id>*'),
  ('exists (select from app.members a left join app.orgs o on o.id = a.org where a.user_id = auth.uid())', 'user_id>*'),
  ('exists (select from app.orgs o where o.owner_id = auth.uid() and exists (select from app.members m '
    'where m.org = o.id and m.user_id = o.owner_id))', 'user_id>*'),
  ('exists (select from app.orgs o where o.id in (select m.org from app.members m where m.user_id = auth.uid()))',
    'user_id>*'),
  ('exists (with mine as (select * from app.members m where m.user_id = auth.uid()) select from mine '
    'where mine.other_id = user_presence.user_id)', 'user_id>*'),
  ('exists (select from (select * from app.members m where m.user_id = auth.uid()) mine)', 'user_id>*'),
  ('user_id in (select m.other_id from app.members m where m.user_id = auth.uid() union '
    'select m.user_id from app.members m where m.other_id = auth.uid())', 'other_id>* user_id>*'),
  ('user_id = auth.uid() and exists (select from app.members m where m.user_id = user_presence.user_id)',
    'user_id>user_id'),
  ('face = ''public'' and (status = ''online'' or user_id in (select m.other_id from app.members m '
    'where m.user_id = auth.uid()))', 'user_id>other_id')
) as c (condition, pairs);

-- Not understood: a change may concern anybody ------------------------------------------------------------------------
select is(pg_temp.pairs(c.condition), c.pairs, c.condition)
from (values
  ('exists (select from app.members m where m.org = 1)', 'all'),
  ('exists (select from app.members m where m.user_id = auth.uid() or m.org = 1)', 'all'),
  ('exists (select from app.members m where m.user_id <> auth.uid())', 'all'),
  ('exists (select from app.members m where m.user_id is not distinct from auth.uid())', 'all'),
  ('exists (select from app.members m where m.user_id = coalesce(auth.uid(), user_presence.user_id))', 'all'),
  ('exists (select from app.members m where m.name = auth.jwt() ->> ''email'')', 'all'),
  ('exists (select from app.members m where m.name = auth.jwt() ->> ''bus'')', 'all'),
  -- A cast that may raise.
  ('exists (select from app.members m where m.name::uuid = auth.uid())', 'all'),
  ('exists (select from app.members m where lower(m.name) = auth.uid()::text)', 'all'),
  ('exists (select from app.orgs o left join app.members a on a.org = o.id and a.user_id = auth.uid())', 'all'),
  ('exists (select from app.members a left join app.orgs o on o.owner_id = a.user_id and o.owner_id = auth.uid())',
    'all'),
  ('exists (select from app.members a full join app.orgs o on o.owner_id = a.user_id and o.owner_id = auth.uid())',
    'all'),
  ('user_id = (select m.other_id from app.members m order by m.org limit 1)', 'all'),
  ('user_id in (select m.other_id from app.members m order by m.org limit 1)', 'all'),
  ('user_id in (select max(m.name)::uuid from app.members m)', 'all'),
  ('user_id <> all (select m.other_id from app.members m)', 'all'),
  -- A null among the values makes it unknown for every user, and so the opposite too.
  ('user_id not in (select m.other_id from app.members m)', 'all'),
  ('(user_id in (select m.other_id from app.members m)) is not true', 'all'),
  ('exists (select from app.members m where m.user_id = auth.uid()) and exists (select from app.members)', 'all'),
  ('exists (select from app.members m where m.user_id = (select o.owner_id from app.orgs o where o.owner_id = '
    'auth.uid()))', 'all'),
  ('exists (select from app.members m where case when m.org = 1 then m.user_id = auth.uid() else true end)', 'all')
) as c (condition, pairs);

-- Other readers -------------------------------------------------------------------------------------------------------
create view app.mine as select m.* from app.members m where m.user_id = auth.uid();
create view app.everyone as select * from app.members;
create function app.mine_in(p_org int) returns boolean language sql stable
  begin atomic select exists (select from app.members m where m.user_id = auth.uid() and m.org = p_org); end;
create function app.by_text() returns boolean language sql stable as $$
  select exists (select from app.members m where m.user_id = auth.uid()) $$;
select is(pg_temp.pairs('exists (select from app.mine m where m.other_id = user_presence.user_id)'), 'user_id>*',
  'a view with the rows of the viewer');
select is(pg_temp.pairs('exists (select from app.everyone m where m.user_id = auth.uid())'), 'all',
  'a view with all rows');
select is(pg_temp.pairs('app.mine_in(1)'), 'user_id>*', 'a function with a parsed body');
select is(pg_temp.pairs('app.by_text()'), 'all', 'a function with a text');
alter table app.orgs enable row level security;
create policy members on app.orgs for select using (
  exists (select from app.members m where m.org = orgs.id and m.user_id = auth.uid()));
select is(pg_temp.pairs('exists (select from app.orgs o)'), 'user_id>*', 'a policy of another table');
drop policy members on app.orgs;
create table app.":odd" (user_id uuid, ":b" uuid);
select is(pg_temp.pairs('exists (select from app.":odd" m where m.user_id = auth.uid() and m.":b" = user_presence.user_id)',
  'app.":odd"'), 'all', 'names that begin with a colon cannot be read');

-- One more table ------------------------------------------------------------------------------------------------------
-- The index is for the look-up of members.
create table app.memberships (team int, user_id uuid, friend_id uuid, slug text, unindexed int);
create index on app.memberships (team);
create index on app.memberships (slug);
create table app.teams (id int, parent int, slug text, owner_id uuid, open boolean);
create index on app.teams (id);
-- The column, and the column of the other table, its viewers and its subjects.
create function pg_temp.joins(p_condition text) returns text language sql as $$
  select regexp_replace(replace(replace(pg_temp.pairs(p_condition, 'app.teams', 2), '"', ''), ', ', ','),
    'app.memberships,', '', 'g') $$;
select is(pg_temp.joins(c.condition), c.joins, c.condition)
from (values
  ('exists (select from app.teams t join app.memberships m on m.team = t.id where t.open and m.user_id = auth.uid())',
    'id[team,user_id,null]'),
  ('exists (select from app.memberships m join app.teams t on t.slug = m.slug and m.user_id = auth.uid())',
    'slug[slug,user_id,null]'),
  ('exists (select from app.teams t, app.memberships m where t.open and m.team = t.id and m.user_id = auth.uid() '
    'and m.friend_id = user_presence.user_id)', 'id[team,user_id,friend_id]'),
  ('exists (select from app.teams t where t.open and t.id in (select m.team from app.memberships m '
    'where m.user_id = auth.uid()))', 'id[team,user_id,null]'),
  ('exists (select from app.teams t where t.open and exists (select from app.memberships m where m.team = t.id '
    'and m.user_id = auth.uid()))', 'id[team,user_id,null]'),
  ('user_id in (select m.friend_id from app.memberships m where m.team in (select t.id from app.teams t where t.open))',
    'id[team,null,friend_id]'),
  ('exists (select from app.memberships m where m.user_id = auth.uid() and not exists (select from app.teams t '
    'where t.id = m.team and not t.open))', 'id[team,user_id,null]'),
  ('exists (select from app.memberships m where m.user_id = auth.uid() and m.team in (select t.id from app.teams t '
    'where t.open union select t.parent from app.teams t))', 'all'),
  -- Through a third table.
  ('exists (select from app.teams t join app.teams u on u.parent = t.id join app.memberships m on m.team = u.parent '
    'where m.user_id = auth.uid())', 'id[team,user_id,null] parent[team,user_id,null]'),
  -- A column of its own names fewer.
  ('exists (select from app.teams t join app.memberships m on m.team = t.id where m.user_id = auth.uid() '
    'and t.owner_id = auth.uid())', 'owner_id>*'),
  -- Not found by an index, not equal, not the same type, optional, or without a row of the other table.
  ('exists (select from app.teams t join app.memberships m on m.unindexed = t.id where m.user_id = auth.uid())', 'all'),
  ('exists (select from app.teams t join app.memberships m on m.team >= t.id where m.user_id = auth.uid())', 'all'),
  ('exists (select from app.teams t join app.memberships m on m.slug = t.id::text where m.user_id = auth.uid())',
    'all'),
  ('exists (select from app.teams t left join app.memberships m on m.team = t.id and m.user_id = auth.uid() '
    'where t.open)', 'all'),
  ('exists (select from app.teams t where t.open or t.id in (select m.team from app.memberships m '
    'where m.user_id = auth.uid()))', 'all'),
  ('exists (select from app.teams t where not exists (select from app.memberships m where m.team = t.id '
    'and m.user_id = auth.uid()))', 'all'),
  ('exists (select from app.teams t where exists (select count(*) from app.memberships m where m.team = t.id '
    'and m.user_id = auth.uid()))', 'all'),
  ('exists (select from app.teams t join app.memberships m on m.team = t.id where m.user_id = auth.uid()) '
    'or exists (select from app.teams t where t.open)', 'all'),
  ('exists (select from app.teams t join rollcall.team_members m on m.user_id = t.owner_id '
    'where m.user_id = auth.uid() and t.open)', 'owner_id>*')
) as c (condition, joins);
create view app.own_memberships as select * from app.memberships;
select is(pg_temp.joins('exists (select from app.teams t join app.own_memberships m on m.team = t.id '
  'where m.user_id = auth.uid())'), 'all', 'a view has no rows of its own');

-- Whom the other table names, at the time of the look-up.
insert into app.memberships values (1, tests.u(1), tests.u(2)), (1, tests.u(3), null), (2, tests.u(4), tests.u(5)),
  (null, tests.u(6), tests.u(7));
update app.memberships set slug = 'a,b "'',' where user_id = tests.u(6);
insert into app.memberships select 3, tests.u(1) from generate_series(1, 1001);
create function pg_temp.joined(p_join text, p_values text) returns text language sql as $$
  select coalesce(string_agg(u.users, ' ' order by u.users), 'none')
  from (
    select format('%s>%s', coalesce((select string_agg(ltrim(right(v.id::text, 2), '0'), ',' order by v.id)
        from unnest(j.viewers) v (id)), '*'),
      coalesce((select string_agg(ltrim(right(v.id::text, 2), '0'), ',' order by v.id)
        from unnest(j.subjects) v (id)), '*')) as users
    from rollcall_internal.users_joined(p_join, p_values::text[]) j) u $$;
select is(pg_temp.joined(j.spec, j.value), j.users, j.spec || ' = ' || j.value)
from (values
  ('["app.memberships", "team", "user_id", null]', '{1}', '1,3>*'),
  ('["app.memberships", "team", "user_id", null]', '{1,2}', '1,3>* 4>*'),
  ('["app.memberships", "team", "user_id", "friend_id"]', '{1,9}', '1,3>2'),
  ('["app.memberships", "team", null, "friend_id"]', '{2}', '*>5'),
  ('["app.memberships", "team", "user_id", null]', '{9}', 'none'),
  ('["app.memberships", "team", "user_id", null]', '{1,3}', '*>* 1,3>*'),
  ('["app.memberships", "slug", "user_id", null]', '{"a,b \"'',"}', '6>*')
) as j (spec, value, users);
insert into app.memberships select i % 20 + 4, tests.u(1) from generate_series(1, 10001) i;
select is(pg_temp.joined('["app.memberships", "team", "user_id", null]',
  (select array_agg(i)::text from generate_series(4, 24) i)), '*>*', 'more rows than are read');
set local client_min_messages = error;
select is(pg_temp.joined('["app.memberships", "gone", "user_id", null]', '{1}'), '*>*', 'a column that is gone');
select is(pg_temp.joined('["app.memberships", "team", "user_id", null]', '{x}'), '*>*', 'a value of another type');
reset client_min_messages;

-- The log has the value and not the users.
create function pg_temp.noted_values(p_statement text) returns text language plpgsql as $$
declare
  v_last bigint := (select coalesce(max(l.id), 0) from rollcall_internal.visibility_log l);
begin
  execute p_statement;
  return (select string_agg(coalesce(l.join_value, '*'), ',' order by l.join_value)
    from rollcall_internal.visibility_log l where l.id > v_last);
end
$$;
create policy sees on rollcall.user_presence for select to authenticated using (
  exists (select from app.teams t join app.memberships m on m.team = t.id where t.open and m.user_id = auth.uid()));
select is(pg_temp.noted_values('insert into app.teams (id) values (1), (2), (2), (null)'), '1,2', 'inserted values');
select is(pg_temp.noted_values('update app.teams set open = true where id = 1'), '1', 'an updated row');
select is(pg_temp.noted_values('update app.teams set id = 3 where id = 2'), '2,3', 'values before and after');
select is(pg_temp.noted_values('update app.teams set owner_id = tests.u(1)'), null, 'columns that no policy reads');
select is(pg_temp.noted_values('delete from app.teams where id = 3'), '3', 'deleted rows');
select is(pg_temp.noted_values('insert into app.teams (id) select i from generate_series(1, 101) i'), '*',
  'more values than are looked up');
drop policy sees on rollcall.user_presence;

-- The triggers --------------------------------------------------------------------------------------------------------
create function pg_temp.noted(p_statement text) returns text language plpgsql as $$
declare
  v_last bigint := (select coalesce(max(l.id), 0) from rollcall_internal.visibility_log l);
begin
  execute p_statement;
  return (
    select string_agg(format('%s>%s', coalesce((select string_agg(ltrim(right(v.id::text, 2), '0'), ',' order by v.id)
        from unnest(l.viewers) v (id)), '*'), coalesce((select string_agg(ltrim(right(s.id::text, 2), '0'), ','
        order by s.id) from unnest(l.subjects) s (id)), '*')), ' ' order by l.id)
    from rollcall_internal.visibility_log l where l.id > v_last);
end
$$;
create policy sees on rollcall.user_presence for select to authenticated using (
  exists (select from app.members m where m.user_id = auth.uid() and m.other_id = user_presence.user_id
    and m.org > 0));
select is(pg_temp.noted($$insert into app.members values (tests.u(1), tests.u(2), 'a', 1), (tests.u(1), tests.u(3), 'b', 1),
  (null, tests.u(4), 'c', 1), (tests.u(5), null, 'd', 1)$$), '1>2,3', 'inserted rows');
select is(pg_temp.noted($$update app.members set note = 'x', name = 'y'$$), null, 'columns that no policy reads');
select is(pg_temp.noted($$update app.members set other_id = tests.u(6), org = org where other_id = tests.u(3)$$), '1>3,6',
  'an updated row: the user before and after');
select is(pg_temp.noted($$delete from app.members where other_id = tests.u(2)$$), '1>2', 'a deleted row');
create policy more on rollcall.user_presence for select to authenticated using (
  exists (select from app.members m where m.org = 7));
select is(pg_temp.noted($$insert into app.members values (tests.u(1), tests.u(2), 'a', 1)$$), '*>*',
  'a further policy concerns everybody');
drop policy more on rollcall.user_presence;
select rollcall.watch_visibility_sources();
select is(pg_temp.noted($$insert into app.members (user_id, other_id, org) select tests.u(1), tests.u(2), i
  from generate_series(1, 10001) i$$), '*>*', 'more rows than are looked at');
select is(pg_temp.noted($$update app.members set note = 'z'$$), null, 'many rows, of which nothing that is read changed');
select is(pg_temp.noted($$update app.members set org = -org where org % 2 = 0$$), '*>*',
  'more updated rows than are looked at');
select is(pg_temp.noted($$update app.members set org = -org where org in (-2, -4)$$), '1>2', 'equal rows count once');
select is(pg_temp.noted($$update app.members set user_id = null where org = 2$$), '1>2', 'a value that becomes null');
select is(pg_temp.noted($$insert into app.members (user_id, other_id, org) select tests.u(1), tests.u(2), i
  from generate_series(1, 2000) i$$), '1>2', 'many equal rows');
select is(pg_temp.noted($$insert into app.members select * from app.members where false$$), null, 'a statement without rows');
select is(pg_temp.noted('truncate app.members'), '*>*', 'no rows');
alter table app.members rename column other_id to friend_id;
select is(pg_temp.noted($$insert into app.members values (tests.u(1), tests.u(2), 'a', 1)$$), '1>2', 'a renamed column');
select rollcall.watch_table('app.members');
select rollcall.watch_visibility_sources();
select is(pg_temp.noted($$insert into app.members values (tests.u(1), tests.u(3), 'a', 1)$$), '*>*',
  'watch_table is kept as it was declared');

select * from finish();
rollback;
