-- Module: presence
-- Which columns name users, for export and erasure.

-- Every function that exports or erases reads this table.
create table rollcall.personal_data (
  relation regclass not null,
  column_name text not null,
  exported boolean not null,
  erase_order int,
  reason text,
  constraint personal_data_pkey primary key (relation, column_name),
  constraint personal_data_gives_a_reason check ((exported and erase_order is not null) or reason is not null)
);
comment on table rollcall.personal_data is
  'Every column that names a user: whether its rows are in that user''s export, and when they are deleted in an '
  'erasure. A table with such a column needs a row here.';
comment on column rollcall.personal_data.erase_order is 'Lower is deleted first; null is kept.';
comment on column rollcall.personal_data.reason is 'Why rows are not exported, or are kept.';
alter table rollcall.personal_data enable row level security;
create policy "everyone reads the registry" on rollcall.personal_data for select to authenticated using (true);
create policy "service_role reads" on rollcall.personal_data for select to service_role using (true);
revoke all on rollcall.personal_data from anon, authenticated, service_role;
grant select on rollcall.personal_data to authenticated, service_role;
