//! Statuses that a user may set, and the two forms in which they are shown.

use std::{fmt, str::FromStr};

use postgres_types::ToSql;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sql::from_sql_text;

/// A status that a user may set. `busy`, `dnd` and `invisible` hold on all devices until changed; the others are the
/// state of one device.
//
// In SQL the enum `rollcall.presence_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_status", rename_all = "lowercase")]
pub enum Status {
    Online,
    /// Connected, but not using the device.
    Away,
    /// Busy. Chosen by the user; holds on all devices until changed.
    Busy,
    /// Do not disturb. Chosen by the user.
    Dnd,
    /// Shown as offline except to the visibility list. Chosen by the user.
    Invisible,
    Offline,
}

impl Status {
    /// All statuses, in the order of the API documentation.
    pub const ALL: [Self; 6] =
        [Self::Online, Self::Away, Self::Busy, Self::Dnd, Self::Invisible, Self::Offline];

    /// The value on the wire and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Dnd => "dnd",
            Self::Invisible => "invisible",
            Self::Offline => "offline",
        }
    }

    /// Whether the status is the user's choice for all devices rather than a device's state.
    #[must_use]
    pub const fn is_choice(self) -> bool {
        matches!(self, Self::Busy | Self::Dnd | Self::Invisible)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of online, away, busy, dnd, invisible, offline")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// Whether a user is reachable. `busy` and `dnd` count as `online`.
//
// In SQL the enum `rollcall.presence_reach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_reach", rename_all = "lowercase")]
pub enum Reach {
    /// At least one live device is online.
    Online,
    /// All live devices are away.
    Away,
    /// No live device, or none that the viewer may see.
    Offline,
}

impl Reach {
    /// The value on the wire and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }
}

/// One of the two forms in which a user is shown.
//
// A row in `user_presence`; in SQL the enum `rollcall.presence_face`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, ToSql,
)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_face", rename_all = "lowercase")]
pub enum Face {
    /// For viewers allowed by the settings, with the shared fields.
    Public,
    /// For the user and the users on the visibility list, with all fields.
    Trusted,
}

from_sql_text!(Status);
from_sql_text!(Reach);
from_sql_text!(Face);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_round_trips() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }

    #[test]
    fn unknown_statuses_are_rejected() {
        for text in ["", "Online", "idle", "online "] {
            assert_eq!(text.parse::<Status>(), Err(UnknownStatus));
        }
    }
}
