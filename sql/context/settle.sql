-- Sets the dirty flags that changes of sources, policies and grants left to be set. Returns one row: how many.
select rollcall_internal.mark_stale_by_access() + rollcall_internal.mark_stale_bundles()
