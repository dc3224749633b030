-- Puts the trigger on realtime.messages that tells nodes of new rows, if it is not there. One row: whether it is there now.
-- On Supabase the table is Supabase's: there it is the operator who decides, and doctor gives the statements.
select case
  when exists (select from pg_roles where rolname = 'supabase_auth_admin') then exists (
    select from pg_trigger
    where tgrelid = to_regclass('realtime.messages') and tgname = 'rollcall_messages' and tgenabled in ('O', 'A'))
  else rollcall.enable_message_notifications()
end
