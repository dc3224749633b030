//! A broadcast as the database holds it.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{model::Topic, pg::queries::messages::StoredMessage};

/// A row of `realtime.messages` that is to be delivered.
#[derive(Debug, Clone)]
pub struct DatabaseBroadcast {
    /// The row's id, which clients see as `meta.id`.
    pub id: Uuid,
    /// Where to.
    pub topic: Topic,
    /// The event's name.
    pub event: Box<str>,
    /// What is said.
    pub payload: Payload,
    /// When the row was inserted, by the database's clock.
    pub inserted_at: Timestamp,
}

impl TryFrom<StoredMessage> for DatabaseBroadcast {
    type Error = SkipReason;

    fn try_from(message: StoredMessage) -> Result<Self, SkipReason> {
        let StoredMessage { id, topic, event, private, inserted_at, payload, binary_payload, too_large } =
            message;
        if too_large {
            return Err(SkipReason::TooLarge);
        }
        let payload = match (payload, binary_payload) {
            (Some(json), _) => Payload::Json(json),
            (None, Some(bytes)) => Payload::Binary(bytes),
            (None, None) => return Err(SkipReason::Incomplete),
        };
        let (Some(event), Some(private)) = (event, private) else { return Err(SkipReason::Incomplete) };
        let room = Topic { name: topic.into(), private };
        Ok(Self { id, topic: room, event: event.into(), payload, inserted_at })
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
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// Why a row is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It has no event, no payload, or does not say whether it is private: a probe, or written so by hand.
    Incomplete,
    /// Its payload is larger than a broadcast may be.
    TooLarge,
    /// It was deleted before it was read.
    Deleted,
    /// More came than is remembered.
    TooManyMissed,
    /// The database refused to show it.
    Unreadable,
}

impl SkipReason {
    /// A word for metrics.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too_large",
            Self::Deleted => "gone",
            Self::TooManyMissed => "too_many",
            Self::Unreadable => "unreadable",
        }
    }
}
