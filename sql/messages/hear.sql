-- Puts the trigger on realtime.messages that tells nodes of new rows, if it is not there. One row: whether it is there now.
select rollcall.hear_messages()
