-- Sets the dirty flags that changes of sources, policies and grants still require. Returns one row: how many.
select rollcall_internal.mark_stale_by_access() + rollcall_internal.mark_stale_bundles()
