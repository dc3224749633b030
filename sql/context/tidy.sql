-- Deletes expired rows of the context engine and the data of deleted accounts. Returns one row: how many.
select rollcall_internal.purge_context() + rollcall_internal.purge_pending_answers()
  + rollcall_internal.erase_deleted_accounts(20)
