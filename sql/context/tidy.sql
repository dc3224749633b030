-- Deletes expired rows of the context engine. Returns one row: how many.
select rollcall_internal.purge_context() + rollcall_internal.purge_pending_answers()
