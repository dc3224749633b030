-- What was just written lies in a list beside a search index until it is sorted in, and each search reads that list from
-- end to end. With the default of 4 MB a search among 10,000 new units took 70 ms instead of 1.6.
-- Invariant: a search reads no more than a few hundred rows that are not sorted in.
alter index public.atomic_chat_units_search set (gin_pending_list_limit = 64);
alter index public.memories_search set (gin_pending_list_limit = 64);
