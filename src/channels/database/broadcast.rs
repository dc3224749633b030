//! A broadcast as the database holds it.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{channels::Room, pg::queries::messages::Message};

/// A row of `realtime.messages` that is to be delivered.
#[derive(Debug, Clone)]
pub struct DatabaseBroadcast {
    /// The row's id, which clients see as `meta.id`.
    pub id: Uuid,
    /// Where to.
    pub room: Room,
    /// The event's name.
    pub event: Box<str>,
    /// What is said.
    pub payload: Payload,
    /// When the row was inserted, by the database's clock.
    pub inserted_at: Timestamp,
}

impl TryFrom<Message> for DatabaseBroadcast {
    type Error = Skipped;

    fn try_from(message: Message) -> Result<Self, Skipped> {
        let Message { id, topic, event, private, inserted_at, payload, binary_payload, too_large } = message;
        if too_large {
            return Err(Skipped::TooLarge);
        }
        let payload = match (payload, binary_payload) {
            (Some(json), _) => Payload::Json(json),
            (None, Some(bytes)) => Payload::Binary(bytes),
            (None, None) => return Err(Skipped::Incomplete),
        };
        let (Some(event), Some(private)) = (event, private) else { return Err(Skipped::Incomplete) };
        let room = Room { topic: topic.into(), private };
        Ok(Self { id, room, event: event.into(), payload, inserted_at })
    }
}

/// What a broadcast says.
#[derive(Debug, Clone)]
pub enum Payload {
    /// JSON as PostgreSQL writes it.
    Json(Box<RawValue>),
    /// Bytes.
    Binary(Bytes),
}

impl Payload {
    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// Why a row is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// It has no event, no payload, or does not say whether it is private: a probe, or written so by hand.
    Incomplete,
    /// Its payload is larger than a broadcast may be.
    TooLarge,
    /// It was deleted before it was read.
    Gone,
    /// More came than is remembered.
    TooMany,
    /// The database refused to show it.
    Unreadable,
}

impl Skipped {
    /// A word for metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too_large",
            Self::Gone => "gone",
            Self::TooMany => "too_many",
            Self::Unreadable => "unreadable",
        }
    }
}
