//! One function a statement in `sql/`. Row structs are private to their file and become words of the model.

pub mod broadcast;
pub mod bundles;
pub mod bus;
pub mod channel_presence;
pub mod contacts;
pub mod context;
pub mod conversations;
pub mod devices;
pub mod embeddings;
pub mod messages;
pub mod node;
pub mod operator;
pub mod postgres_changes;
pub mod presence;
pub mod privacy;
pub mod rights;
pub mod roll_ups;
pub mod settings;
pub mod turns;
pub mod typing;
