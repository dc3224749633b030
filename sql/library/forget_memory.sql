-- Deletes the caller's memories and what was learned. $1 is not used. Returns one row: how many.
with memories as (
  delete from rollcall.memories m where m.user_id = auth.uid() and $1::jsonb is not null returning 1
),
units as (
  delete from rollcall.atomic_chat_units u where u.user_id = auth.uid() and u.is_learned returning 1
)
select jsonb_build_object('memories', (select count(*) from memories), 'units', (select count(*) from units)) as found
