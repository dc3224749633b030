//! Descriptions of socket endpoints and their messages.

use serde_json::Value;

use super::schemas::Field;

/// Description of one socket endpoint for the AsyncAPI document.
pub(super) struct Channel {
    pub name: &'static str,
    pub address: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// Name of the field that holds the message type.
    pub discriminator: &'static str,
    pub client: Vec<Message>,
    pub server: Vec<Message>,
}

/// Description of one message of a socket.
pub(super) struct Message {
    pub kind: &'static str,
    pub description: &'static str,
    pub fields: Vec<Field>,
    /// Example; only for messages of clients.
    pub example: Option<Value>,
}
