-- Versions of the migrations of Rollcall that were applied, in order. One row per migration, none where it is not
-- installed. query_to_xml, because the table may not exist when the statement is planned.
select version
from xmltable('/table/row' passing (
    select case when to_regclass('rollcall.schema_migrations') is not null
      then query_to_xml('select version from rollcall.schema_migrations order by version', false, false, '')
      else '<table/>'::xml end
  ) columns version text)
order by version
