-- DDL: the tables that policies depend on are followed from the statement on that makes them so, and other DDL costs no
-- analysis.
begin;
select plan(17);
select tests.as_owner();

create schema app;
create function pg_temp.is_followed(p_table regclass) returns boolean language sql as $$
  select exists (select from pg_trigger t where t.tgrelid = p_table and t.tgname = 'rollcall_watch')
    and exists (select from pg_trigger t where t.tgrelid = p_table and t.tgname = 'rollcall_authorization_insert')
$$;

-- The function names what is made below. It is checked when it runs only.
create function app.may_see(p_user uuid) returns boolean language plpgsql stable as $$
begin
  return exists (select from app.early) or exists (select from app.moved) or exists (select from app."Odd name")
    or exists (select from app.parent) or app.helper(p_user) or exists (select from app.shown);
end
$$;
create policy sees on rollcall.user_presence for select to authenticated using (app.may_see(user_id));
create policy hears on realtime.messages for select to authenticated using (app.may_see(auth.uid()));

create table app.early (id int);
select ok(pg_temp.is_followed('app.early'), 'a table that a function names is followed when it is created');
create table app."Odd name" (id int);
select ok(pg_temp.is_followed('app."Odd name"'), 'also with a name that needs quotes');
create table app.elsewhere (id int);
select ok(not pg_temp.is_followed('app.elsewhere'), 'another table is not followed');
alter table app.elsewhere rename to moved;
select ok(pg_temp.is_followed('app.moved'), 'until it is renamed');
create table app.parent (id int) partition by range (id);
create table app.part_1 partition of app.parent for values from (1) to (2);
select ok(pg_temp.is_followed('app.part_1'), 'a partition is followed');
create table app.part_2 (id int);
alter table app.parent attach partition app.part_2 for values from (2) to (3);
select ok(pg_temp.is_followed('app.part_2'), 'and one that is attached');
create table app.child (id int);
alter table app.child inherit app.early;
select ok(pg_temp.is_followed('app.child'), 'and a child');
create table app.behind (id int);
create function app.helper(p_user uuid) returns boolean language plpgsql stable as $$
  begin return exists (select from app.behind); end
$$;
select ok(pg_temp.is_followed('app.behind'), 'a table behind a function that is created later is followed');
create table app.replaced (id int);
create or replace function app.helper(p_user uuid) returns boolean language plpgsql stable as $$
  begin return exists (select from app.replaced); end
$$;
select ok(pg_temp.is_followed('app.replaced'), 'and behind a function that is replaced');
create table app.viewed (id int);
create view app.shown as select * from app.viewed;
select ok(pg_temp.is_followed('app.viewed'), 'a table behind a view is followed');
create table app.guard (id int);
alter table app.viewed enable row level security;
create policy guarded on app.viewed using (exists (select from app.guard));
select ok(pg_temp.is_followed('app.guard'), 'a policy on a followed table counts');
create table app.altered (id int);
alter policy guarded on app.viewed using (exists (select from app.altered));
select ok(pg_temp.is_followed('app.altered'), 'and one that is altered');
create table app.named (id int);
create function app.other(p_user uuid) returns boolean language plpgsql stable as $$
  begin return exists (select from app.named); end
$$;
create or replace function app.helper(p_user uuid) returns boolean language plpgsql stable as $$
  begin return app.assist(p_user); end
$$;
select ok(not pg_temp.is_followed('app.named'), 'a function that no policy calls does not count');
alter function app.other(uuid) rename to assist;
select ok(pg_temp.is_followed('app.named'), 'until its name is that of one that is called');

-- Counts instead of analysing.
create table rollcall_internal.analyses (id int);
create or replace function rollcall.watch_visibility_sources() returns setof regclass language sql security definer
  as $$ insert into rollcall_internal.analyses values (1); select null::regclass where false $$;
create or replace function rollcall.watch_authorization_sources() returns setof regclass language sql security definer
  as $$ insert into rollcall_internal.analyses values (1); select null::regclass where false $$;
delete from rollcall_internal.analyses;
do $$
begin
  for n in 1 .. 60 loop
    execute format('create function app.unrelated_%s() returns int language sql as $f$ select %1$s $f$', n);
    execute format('create table app.table_%s (id int primary key, note text)', n);
    execute format('alter table app.table_%s add column more text', n);
    execute format('alter table app.table_%s enable row level security', n);
    execute format('create policy p on app.table_%s using (true)', n);
    execute format('create view app.view_%s as select * from app.table_%1$s', n);
  end loop;
end
$$;
select is((select count(*) from rollcall_internal.analyses), 0::bigint, 'DDL that concerns no policy of ours is not analysed');
create policy another on app.early using (true);
select is((select count(*) from rollcall_internal.analyses), 2::bigint, 'a policy on a followed table is');
-- As after a restore: the recorded OIDs are those of other objects.
update rollcall_internal.examined_policies set objects = '{1,2,3}';
create table app.unrelated (id int);
select is((select count(*) from rollcall_internal.analyses), 4::bigint, 'and everything while the recorded OIDs are not valid');

select * from finish();
rollback;
