-- Makes the partitions of realtime.messages that are needed and drops those past their time.
-- Returns one row: how many it made and dropped, int4 each.
select created, dropped from rollcall.maintain_message_partitions()
