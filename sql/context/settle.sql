-- Sets the dirty flags that changes of sources, policies and grants left to be set. Returns one row: how many.
select rollcall.settle_access() + rollcall.settle_bundles()
