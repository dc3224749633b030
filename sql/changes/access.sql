-- What roles may read of tables, and their policies. $1 relations oid[], $2 roles text[].
-- Returns one row per existing table and role.
select relation, role, is_known, columns, key, key_types, qualified, is_secured, is_exempt, deletes_are_secured,
  owner_columns, name, condition, reads, read_types, is_steady
from rollcall_internal.change_access($1, $2)
