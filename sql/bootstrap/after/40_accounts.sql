-- Deleting an account erases the user's data, where this installation created the table of accounts. An existing table,
-- such as that of Supabase Auth, is changed only on request; see rollcall.watch_accounts.
do $$
begin
  if exists (select from pg_temp.rollcall_created c where c.kind = 'table' and c.name = 'auth.users')
    and to_regprocedure('rollcall.watch_accounts(regclass, text)') is not null
  then
    perform rollcall.watch_accounts('auth.users');
  end if;
end
$$;
