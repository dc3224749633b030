//! A broadcast stored in the database.

use jiff::Timestamp;

use crate::{
    channels::history::KeptMessage, model::Topic, pg::queries::messages::StoredMessage,
    protocol::phoenix::UserPayload,
};

/// A row of `realtime.messages` to deliver.
#[derive(Debug, Clone)]
pub struct DatabaseBroadcast {
    pub topic: Topic,
    /// With the ID of the row.
    pub message: KeptMessage,
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
            (Some(json), _) => UserPayload::Json(json.into()),
            (None, Some(bytes)) => UserPayload::Binary(bytes),
            (None, None) => return Err(SkipReason::Incomplete),
        };
        let (Some(event), Some(private)) = (event, private) else { return Err(SkipReason::Incomplete) };
        let topic = Topic { name: topic.into(), private };
        Ok(Self { topic, message: KeptMessage { id, event: event.into(), payload }, inserted_at })
    }
}

/// Why a row is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The row has no event, no payload or no `private` flag, for example if it was inserted by hand.
    Incomplete,
    /// The payload exceeds the maximum size of a broadcast.
    TooLarge,
    /// The row was deleted before it was read.
    Deleted,
    /// More rows were missed than are read again.
    TooManyMissed,
    /// The database refused to read the row.
    Unreadable,
}

impl SkipReason {
    /// Value of the metric label `reason`.
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
