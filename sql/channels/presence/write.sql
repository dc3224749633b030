-- Writes a batch of a node's channels, each at most once.
-- $1 node uuid, $2 channels that track nothing any more bigint[]; of the others, all of one length: $3 channel bigint[],
-- $4 topic text[], $5 private bool[], $6 key text[], $7 ref text[], $8 payload, JSON text[], $9 user uuid[],
-- $10 joined timestamptz[], $11 updated timestamptz[]; $12 whether other nodes are told, bool. Returns one empty row.
select rollcall_internal.write_channel_presence($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
