-- Erases the data of deleted accounts. Returns one row: how many.
select rollcall_internal.erase_deleted_accounts(20)
