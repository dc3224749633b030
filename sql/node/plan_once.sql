-- Sent once on each pooled connection. The same few statements run over and over, each an index scan by ids: planning them
-- for every call, which PostgreSQL prefers where a list is short, costs up to ten times their execution. Their estimates
-- count rows behind functions that nobody can count, so they must not lead to compilation either.
set plan_cache_mode = force_generic_plan;
set jit = off;
