//! What a user shares, and with whom.

use std::{fmt, str::FromStr};

use postgres_types::ToSql;
use serde::{Deserialize, Serialize};

use super::sql::from_sql_word;

/// Who may see a user at all; in SQL the enum `public.presence_visibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_visibility", rename_all = "lowercase")]
pub enum Visibility {
    /// Nobody but the visibility list.
    Nobody,
    /// Whoever shares a team.
    Team,
    /// Accepted contacts.
    Contacts,
    /// Everyone who is signed in.
    Everyone,
}

from_sql_word!(Visibility);

impl Visibility {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Nobody, Self::Team, Self::Contacts, Self::Everyone];

    /// The word on the wire and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Team => "team",
            Self::Contacts => "contacts",
            Self::Everyone => "everyone",
        }
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of nobody, team, contacts, everyone")]
pub struct UnknownVisibility;

impl FromStr for Visibility {
    type Err = UnknownVisibility;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|value| value.as_str() == text).ok_or(UnknownVisibility)
    }
}

/// A user's settings. Their defaults are the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Who may see the user.
    pub visibility: Visibility,
    /// Whether they learn when the user was last seen.
    pub show_last_seen: bool,
    /// Whether they see what the user does, and where.
    pub show_activity: bool,
    /// Whether they see what the user wrote.
    pub show_custom_status: bool,
    /// Whether participants of a conversation see the user type.
    pub show_typing: bool,
}

/// Some of the settings; `None` where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsUpdate {
    /// See [`Settings::visibility`].
    pub visibility: Option<Visibility>,
    /// See [`Settings::show_last_seen`].
    pub show_last_seen: Option<bool>,
    /// See [`Settings::show_activity`].
    pub show_activity: Option<bool>,
    /// See [`Settings::show_custom_status`].
    pub show_custom_status: Option<bool>,
    /// See [`Settings::show_typing`].
    pub show_typing: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visibility_round_trips_and_unknown_values_are_rejected() {
        for visibility in Visibility::ALL {
            assert_eq!(visibility.as_str().parse(), Ok(visibility));
        }
        for text in ["", "Team", "friends", "everyone "] {
            assert_eq!(text.parse::<Visibility>(), Err(UnknownVisibility));
        }
    }
}
