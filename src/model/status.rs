//! Statuses that a user may set, and the two ways in which one is shown.

use std::{fmt, str::FromStr};

use postgres_types::ToSql;
use serde::{Deserialize, Serialize};

use super::sql::from_sql_word;

/// What a user may set; in SQL the enum `public.presence_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_status", rename_all = "lowercase")]
pub enum Status {
    /// Here.
    Online,
    /// Here, not looking.
    Away,
    /// Chosen: holds across devices until changed.
    Busy,
    /// Chosen: do not disturb.
    Dnd,
    /// Chosen: offline to everybody but the visibility list.
    Invisible,
    /// Not here.
    Offline,
}

impl Status {
    /// Every status, in the order in which the contract lists them.
    pub const ALL: [Self; 6] =
        [Self::Online, Self::Away, Self::Busy, Self::Dnd, Self::Invisible, Self::Offline];

    /// The word on the wire and in SQL.
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

/// The text is none of the six statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of online, away, busy, dnd, invisible, offline")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// Whether a user can be reached, in the three words that source B's clients know;
/// in SQL the enum `public.presence_reach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_reach", rename_all = "lowercase")]
pub enum Reach {
    /// At least one live device is online.
    Online,
    /// Live devices, all away.
    Away,
    /// No live device, or none that the viewer may know of.
    Offline,
}

impl Reach {
    /// The word on the wire and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }
}

/// Which of a user's two rows in `user_presence` a viewer gets; in SQL the enum `public.presence_face`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_face", rename_all = "lowercase")]
pub enum Face {
    /// For whoever the settings let see the user, with the fields that are shared.
    Public,
    /// For the user and the people on the visibility list: everything.
    Trusted,
}

from_sql_word!(Status);
from_sql_word!(Reach);
from_sql_word!(Face);

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
