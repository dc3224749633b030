-- Creates the partitions of realtime.messages that are needed and drops expired ones.
-- Returns one row: how many it created and dropped, int4 each.
select created, dropped from rollcall.maintain_message_partitions()
