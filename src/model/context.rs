//! The context of a device: what its user is doing, for the user's other devices and the context engine.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil};
use serde::Serialize;

use super::{ConversationId, DeviceId, NotebookId, PersonaId, UserId};

/// The context of one device: a row of `presence_devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceContext {
    /// The user who owns the device.
    pub user_id: UserId,
    pub device_id: DeviceId,
    pub active_conversation_id: Option<ConversationId>,
    pub visible_conversation_ids: Vec<ConversationId>,
    pub active_notebook_id: Option<NotebookId>,
    pub active_persona_id: Option<PersonaId>,
    /// The page in the application.
    pub last_navigation_path: Option<String>,
    /// The user's local time of day, as sent by the device.
    pub local_time: Option<String>,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl DeviceContext {
    /// Maximum number of visible conversations; in SQL `presence_devices_visible_conversations_count`.
    pub const MAX_VISIBLE: usize = 100;
}

/// One version of a device's signals, as notifications name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextVersion {
    pub user_id: UserId,
    /// Version, unique across the user's devices.
    pub version: i64,
}

/// A time of day as sent by a device: `14:30`, `2024-06-15T14:30:00+02:00`, or the output of `Date.toISOString`. The
/// text is kept unchanged for the user's other devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LocalTime(Box<str>);

impl LocalTime {
    /// Maximum length in bytes.
    pub const MAX_BYTES: usize = 64;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time of day, for example 14:30 or 2024-06-15T14:30:00+02:00")]
pub struct InvalidLocalTime;

impl FromStr for LocalTime {
    type Err = InvalidLocalTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `civil::Time` parses every text with a time of day except one ending in `Z`, which means an unknown offset.
        let is_time = text.len() <= Self::MAX_BYTES
            && (text.parse::<civil::Time>().is_ok() || text.parse::<Timestamp>().is_ok());
        if is_time { Ok(Self(text.into())) } else { Err(InvalidLocalTime) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_parse_with_and_without_a_date_and_stay_unchanged() {
        for text in [
            "14:30",
            "14:30:05",
            "2024-06-15T14:30:00",
            "2024-06-15T14:30:00+02:00",
            "2024-06-15T12:30:00.000Z",
        ] {
            assert_eq!(text.parse::<LocalTime>().map(|time| time.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn invalid_local_times_are_rejected() {
        for text in ["", "noon", "25:00", "2024-06-15", &format!("14:30:00.{}", "0".repeat(80))] {
            assert_eq!(text.parse::<LocalTime>(), Err(InvalidLocalTime), "{text}");
        }
    }
}
