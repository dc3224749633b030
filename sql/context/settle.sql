-- Sets the dirty flags that changes left to be set. Returns one row: how many.
select rollcall.settle_bundles()
