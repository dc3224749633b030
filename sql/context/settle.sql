-- Sets the dirty flags that changes of sources, policies and grants still require. Returns one row: how many, and the
-- triggers of sources that do not fire.
select rollcall_internal.mark_stale_by_access() + rollcall_internal.mark_stale_bundles() as marked,
  array(select rollcall_internal.silent_context_triggers()) as silent
