create table clients (planner_id uuid, wedding text, vendor_id uuid, primary key (planner_id, wedding, vendor_id));
alter table clients enable row level security;
grant select on clients to authenticated;

create policy "own clients" on clients for select to authenticated using (planner_id = (select auth.uid()));
create policy "planners see vendors of their own weddings" on rollcall.user_presence for select to authenticated
  using (face = 'public' and exists (
    select from clients c where c.planner_id = (select auth.uid()) and c.vendor_id = user_presence.user_id));

insert into clients values (:anna, 'Harbour wedding', :flora), (:ben, 'Castle wedding', :flora), (:ben, 'Castle wedding', :chef);

select rollcall.set_status(:flora, 'busy');

delete from clients where wedding = 'Castle wedding' and vendor_id = :flora;

update clients set planner_id = :anna where vendor_id = :chef;

select rollcall.set_status(:chef, 'offline');

drop policy "planners see vendors of their own weddings" on rollcall.user_presence;
