-- Updates of tables that policies read: those that change a column in a policy invalidate visibility, others do not.
begin;
select plan(33);
select tests.as_owner();

create function pg_temp.noted(p_statement text) returns boolean language plpgsql as $$
declare
  v_last bigint := (select coalesce(max(l.id), 0) from rollcall_internal.visibility_log l);
begin
  execute p_statement;
  return exists (select from rollcall_internal.visibility_log l where l.id > v_last);
end
$$;
create schema app;
create table app.members (user_id uuid, org int, role text, settings json, seen_at timestamptz, note text);
insert into app.members values (tests.u(1), 1, 'owner', '{"a":1}', now(), 'x'), (tests.u(2), 1, 'guest', '{}', now(), 'x');
create policy sees on rollcall.user_presence for select to authenticated using (
  exists (select 1 from app.members m where m.user_id = auth.uid() and m.org = 1));

select ok(not pg_temp.noted('update app.members set seen_at = now(), note = ''y'''), 'a column that no policy reads');
select ok(pg_temp.noted('update app.members set org = 2 where user_id = tests.u(2)'), 'a column in the policy');
select ok(not pg_temp.noted('update app.members set org = org'), 'a column in the policy with the same values');
select ok(pg_temp.noted('update app.members set note = ''z'', user_id = tests.u(3) where org = 2'), 'both kinds at once');
select ok(pg_temp.noted('insert into app.members (user_id) values (tests.u(4))'), 'a new row');
select ok(pg_temp.noted('delete from app.members where user_id = tests.u(4)'), 'a deleted row');
select ok(pg_temp.noted('truncate app.members'), 'no rows');
insert into app.members values (tests.u(1), 1, 'owner', '{"a":1}', now(), 'x');

create policy more on rollcall.user_presence for select to authenticated using (
  (select m.settings ->> 'a' from app.members m limit 1) = '1');
select ok(pg_temp.noted('update app.members set settings = ''{"a":2}'''), 'a column of a further policy, of a type without equality');
select ok(not pg_temp.noted('update app.members set note = ''w'''), 'and still not the others');
drop policy more on rollcall.user_presence;

-- The policies of the table itself count.
alter table app.members enable row level security;
create policy own on app.members using (role = 'owner');
select ok(pg_temp.noted('update app.members set role = ''guest'''), 'a column in a policy on the table itself');
select ok(not pg_temp.noted('update app.members set note = ''v'''), 'and still not the others');
alter table app.members rename column role to rank;
select ok(pg_temp.noted('update app.members set rank = ''owner'''), 'a renamed column');
select ok(not pg_temp.noted('update app.members set note = ''u'''), 'and still not the others');
alter table app.members drop column seen_at;
select ok(not pg_temp.noted('update app.members set note = ''t'''), 'a column was dropped');
alter table app.members drop column rank cascade;
select ok(not pg_temp.noted('update app.members set note = ''s'''), 'a column was dropped with its policy');
select ok(pg_temp.noted('update app.members set org = 7'), 'the others of the policies count');

-- Whole rows, views, functions with a parsed body and with text.
create table app.whole (id int, note text);
insert into app.whole values (1, 'a');
create policy whole on rollcall.user_presence for select to authenticated using (
  exists (select 1 from app.whole w where to_jsonb(w) ->> 'note' = 'b'));
select ok(pg_temp.noted('update app.whole set note = ''b'''), 'an expression that reads whole rows');
create table app.base (id int, open boolean, note text);
insert into app.base values (1, true, 'a');
create view app.shown as select b.id from app.base b where b.open;
create policy view on rollcall.user_presence for select to authenticated using (exists (select 1 from app.shown s where s.id = 1));
select ok(pg_temp.noted('update app.base set open = false'), 'a column that a view reads');
select ok(not pg_temp.noted('update app.base set note = ''b'''), 'a column that a view does not read');
create table app.parsed (id int, open boolean, note text);
insert into app.parsed values (1, true, 'a');
create function app.is_open() returns boolean language sql stable begin atomic select exists (select 1 from app.parsed p where p.open); end;
create policy parsed on rollcall.user_presence for select to authenticated using (app.is_open());
select ok(pg_temp.noted('update app.parsed set open = false'), 'a column that a function with a parsed body reads');
select ok(not pg_temp.noted('update app.parsed set note = ''b'''), 'a column that it does not read');
create function app.by_text() returns boolean language plpgsql stable as $$ begin return exists (select from app.parsed where note = 'c'); end $$;
create policy by_text on rollcall.user_presence for select to authenticated using (app.by_text());
select ok(pg_temp.noted('update app.parsed set note = ''c'''), 'any column of a table in the text of a function');
drop policy by_text on rollcall.user_presence;
create table app.parent (id int, open boolean, note text) partition by range (id);
create table app.part partition of app.parent for values from (1) to (9);
insert into app.parent values (1, true, 'a');
create policy parts on rollcall.user_presence for select to authenticated using (exists (select 1 from app.parent p where p.open));
select ok(pg_temp.noted('update app.parent set note = ''b''') and pg_temp.noted('update app.part set note = ''c'''),
  'any column of a partitioned table');
select ok(pg_temp.noted('update app.base set open = true'), 'a value that changes back');

-- Channels -----------------------------------------------------------------------------------------------------------
create table rollcall_internal.notified (channel text, body text);
create or replace function rollcall_internal.notify(p_channel text, p_body text, p_nonce text default null) returns void
  language sql volatile security definer set search_path = '' as $$ insert into rollcall_internal.notified values (p_channel, p_body) $$;
create function pg_temp.heard(p_statement text) returns boolean language plpgsql as $$
begin
  delete from rollcall_internal.notified;
  execute p_statement;
  return exists (select from rollcall_internal.notified n where n.channel = 'rollcall_rights');
end
$$;
create table app.rooms (room text, user_id uuid, muted boolean, note text);
insert into app.rooms values ('a', tests.u(1), false, 'x');
create policy hears on realtime.messages for select to authenticated using (
  exists (select 1 from app.rooms r where r.user_id = auth.uid() and r.room = realtime.topic()));
select ok(not pg_temp.heard('update app.rooms set note = ''y'''), 'channels: a column that no policy reads');
select ok(pg_temp.heard('update app.rooms set room = ''b'''), 'channels: a column in the policy');
select ok(not pg_temp.heard('update app.rooms set muted = true'), 'channels: a column that is not yet in a policy');
create policy sends on realtime.messages for insert to authenticated with check (
  exists (select 1 from app.rooms r where r.user_id = auth.uid() and not r.muted));
select ok(pg_temp.heard('update app.rooms set muted = false'), 'channels: a column of a further policy');
select ok(not pg_temp.heard('update app.rooms set note = ''z'''), 'channels: and still not the others');
select ok(pg_temp.heard('insert into app.rooms values (''c'', tests.u(1), false, null)'), 'channels: a new row');
create function app.may_hear() returns boolean language plpgsql stable as $$ begin return exists (select from app.rooms where note = 'c'); end $$;
create policy text on realtime.messages for select to authenticated using (app.may_hear());
select ok(pg_temp.heard('update app.rooms set note = ''v'''), 'channels: any column of a table in the text of a function');
alter table app.rooms drop column note;
select ok(pg_temp.heard('update app.rooms set room = ''d'''), 'channels: a column was dropped');
select ok(pg_temp.heard('truncate app.rooms'), 'channels: no rows');

select * from finish();
rollback;
