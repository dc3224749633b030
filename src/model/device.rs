//! Devices and their ids.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Status, milliseconds};

/// A device of one user: 1 to 255 characters, chosen by the client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Box<str>);

impl DeviceId {
    /// The longest id, in characters.
    pub const MAX_CHARS: usize = 255;

    /// The device of a client that names none.
    #[must_use]
    pub fn unnamed() -> Self {
        Self("default".into())
    }

    /// The id as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is empty, too long, or holds control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 characters, none of them a control character")]
pub struct InvalidDeviceId;

impl TryFrom<&str> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let fits = !text.is_empty() && text.chars().count() <= Self::MAX_CHARS;
        // NUL cannot be stored in Postgres at all, and none of the others belongs into an identifier.
        if fits && !text.chars().any(char::is_control) { Ok(Self(text.into())) } else { Err(InvalidDeviceId) }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::try_from(text.as_str())
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// As the client named it.
    pub device_id: String,
    /// For people.
    pub device_name: Option<String>,
    /// Phone, desktop and the like, in the client's words.
    pub device_type: Option<String>,
    /// iOS, web and the like, in the client's words.
    pub platform: Option<String>,
    /// The client's version.
    pub app_version: Option<String>,
    /// Online, away or offline.
    pub status: Status,
    /// When it was last known to be live.
    #[serde(serialize_with = "milliseconds::always")]
    pub last_heartbeat_at: Timestamp,
    /// Since when nobody has looked at it.
    #[serde(serialize_with = "milliseconds::option")]
    pub idle_since: Option<Timestamp>,
    /// Since when it has been live, or was the last time.
    #[serde(serialize_with = "milliseconds::always")]
    pub session_started_at: Timestamp,
    /// Whether a running server holds a socket of it.
    pub connected: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_1_to_255_characters() {
        assert!(DeviceId::try_from("web-1").is_ok());
        assert!(DeviceId::try_from("é".repeat(255)).is_ok());
        assert_eq!(DeviceId::try_from(""), Err(InvalidDeviceId));
        assert_eq!(DeviceId::try_from("x".repeat(256)), Err(InvalidDeviceId));
        assert_eq!(DeviceId::try_from("a\0b"), Err(InvalidDeviceId));
    }
}
