//! What a user does on a device, as far as the user's other devices and the context engine want to know.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil};
use serde::Serialize;

use super::{ConversationId, DeviceId, NotebookId, PersonaId, UserId};

/// The context signals of one device: a row of `presence_devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceContext {
    /// Whose device.
    pub user_id: UserId,
    /// Which one.
    pub device_id: DeviceId,
    /// The conversation that is open.
    pub active_conversation_id: Option<ConversationId>,
    /// The conversations that are in view.
    pub visible_conversation_ids: Vec<ConversationId>,
    /// The notebook that is open.
    pub active_notebook_id: Option<NotebookId>,
    /// The persona that is chosen.
    pub active_persona_id: Option<PersonaId>,
    /// Where in the application the user is.
    pub last_navigation_path: Option<String>,
    /// The time of day where the user is, as the device wrote it.
    pub local_time: Option<String>,
    /// When any of it last changed.
    pub updated_at: Timestamp,
}

impl DeviceContext {
    /// The most conversations in view; in SQL `presence_devices_visible_conversations_count`.
    pub const MAX_VISIBLE: usize = 100;
}

/// A time of day as a device writes it: `14:30`, `2024-06-15T14:30:00+02:00`, or what `Date.toISOString` gives. Kept
/// as it came, so that the other devices read what this one wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LocalTime(Box<str>);

impl LocalTime {
    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The text as it came.
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

/// The text is no time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time as in 14:30 or 2024-06-15T14:30:00+02:00")]
pub struct InvalidLocalTime;

impl FromStr for LocalTime {
    type Err = InvalidLocalTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A civil time is read from anything that shows one, but not with a `Z`, which says that the place is unknown.
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
