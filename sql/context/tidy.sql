-- Keeps the context engine's house. Returns one row: how many rows went.
select rollcall.tidy_context() + rollcall.tidy_answers()
