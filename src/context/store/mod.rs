//! Statements of the context engine: bundles and the queue, roll-ups, vectors, chat turns.

pub mod bundles;
pub mod embeddings;
pub mod roll_ups;
pub mod turns;
