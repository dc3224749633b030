-- Creates the trigger on realtime.messages that notifies nodes of new rows, if it is missing. One row: whether it exists.
-- On Supabase the table belongs to Supabase: there the operator decides, and doctor shows the statements.
select case
  when exists (select from pg_roles where rolname = 'supabase_auth_admin') then exists (
    select from pg_trigger
    where tgrelid = to_regclass('realtime.messages') and tgname = 'rollcall_messages' and tgenabled in ('O', 'A'))
  else rollcall.enable_message_notifications()
end
