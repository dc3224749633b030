//! A broadcast with an ID.

use uuid::Uuid;

use crate::protocol::phoenix::UserPayload;

/// A broadcast as histories and the database keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMessage {
    /// The same on all nodes; clients receive it as `meta.id`.
    pub id: Uuid,
    pub event: Box<str>,
    pub payload: UserPayload,
}

impl KeptMessage {
    /// Bytes of event and payload.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.event.len() + self.payload.size_bytes()
    }
}
