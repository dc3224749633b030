//! The types that describe a socket and its messages.

use serde_json::Value;

use super::schemas::Field;

/// The description of one dialect.
pub(super) struct Channel {
    pub name: &'static str,
    pub address: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// The field that names the kind of message.
    pub discriminator: &'static str,
    pub client: Vec<Message>,
    pub server: Vec<Message>,
}

/// The description of one message.
pub(super) struct Message {
    pub kind: &'static str,
    pub description: &'static str,
    pub fields: Vec<Field>,
    /// An example; messages of the server have one.
    pub example: Option<Value>,
}
