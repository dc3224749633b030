-- Creates a team of $1 int members who are online and show it to the team, and of the users $2 uuid[].
with
team as (
  insert into rollcall.teams (name, owner_id) values ('large', gen_random_uuid()) returning id
),
member as (
  select gen_random_uuid() as id from generate_series(1, $1::int)
),
settings as (
  insert into rollcall.presence_settings (user_id, visibility) select m.id, 'team' from member m
),
online as (
  insert into rollcall.presence_devices (user_id, device_id) select m.id, 'd' from member m
)
insert into rollcall.team_members (team_id, user_id)
select t.id, m.id from team t, (select id from member union all select unnest($2::uuid[])) m
