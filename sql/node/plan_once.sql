-- Sent once on each pooled connection.
-- The same few statements run over and over, each an index scan by ids: planning them for every call, which PostgreSQL
-- prefers where a list is short, costs up to ten times their execution. Their row estimates are unreliable behind
-- functions, so they must not lead to compilation either.
set plan_cache_mode = force_generic_plan;
set jit = off;
-- For triggers of users that our writes fire.
select set_config('search_path', rollcall.role_search_path('none'), false);
