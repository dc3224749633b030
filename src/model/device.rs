//! Devices and their IDs.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Status, milliseconds};

/// ID of a device of one user: 1 to 255 characters, chosen by the client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 255)]
pub struct DeviceId(Box<str>);

impl DeviceId {
    /// Maximum length in characters.
    pub const MAX_CHARS: usize = 255;

    /// The ID for clients that do not name a device.
    #[must_use]
    pub fn unnamed() -> Self {
        Self("default".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is empty, too long, or contains control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 255 characters without control characters")]
pub struct InvalidDeviceId;

impl TryFrom<&str> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let fits = !text.is_empty() && text.chars().count() <= Self::MAX_CHARS;
        // PostgreSQL cannot store NUL, and other control characters do not belong in an ID.
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

/// A device as shown to its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Device {
    /// ID of the device, chosen by the client.
    #[schema(value_type = DeviceId)]
    pub device_id: String,
    /// Name of the device for people.
    #[schema(required)]
    pub device_name: Option<String>,
    /// Type as reported by the client, for example phone or desktop.
    #[schema(required)]
    pub device_type: Option<String>,
    /// Platform as reported by the client, for example iOS or web.
    #[schema(required)]
    pub platform: Option<String>,
    /// Version of the client application.
    #[schema(required)]
    pub app_version: Option<String>,
    /// Status of the device: online, away or offline.
    pub status: Status,
    /// Time at which the device was last known to be live.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub last_heartbeat_at: Timestamp,
    /// Time since which the device has been idle; `null` if it is in use.
    #[serde(serialize_with = "milliseconds::option")]
    #[schema(required)]
    pub idle_since: Option<Timestamp>,
    /// Start of the current or last live session.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub session_started_at: Timestamp,
    /// Whether a running node holds a socket of the device.
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
