//! Statements of the context engine: bundles and the queue, memory, roll-ups, vectors, chat turns, usage of
//! models.

pub mod bundles;
pub mod embeddings;
pub mod library;
pub mod memory;
pub mod roll_ups;
pub mod turns;
pub mod usage;
