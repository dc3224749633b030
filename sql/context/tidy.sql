-- Keeps the context engine's house. Returns one row: how many rows went.
select rollcall_internal.purge_context() + rollcall_internal.purge_pending_answers()
