//! A broadcast with an ID.

use uuid::Uuid;

use crate::protocol::phoenix::UserPayload;

/// A broadcast as the history keeps it.
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
        let payload = match &self.payload {
            UserPayload::Json(json) => json.len(),
            UserPayload::Binary(bytes) => bytes.len(),
        };
        self.event.len() + payload
    }
}
