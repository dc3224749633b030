//! One function a statement in `sql/`. Row structs are private to their file and become words of the model.

pub mod broadcast;
pub mod bus;
pub mod channel_presence;
pub mod contacts;
pub mod conversations;
pub mod devices;
pub mod messages;
pub mod node;
pub mod operator;
pub mod postgres_changes;
pub mod presence;
pub mod privacy;
pub mod rights;
pub mod settings;
pub mod typing;
