//! Who is connected here: shards, outboxes, fan-out.
