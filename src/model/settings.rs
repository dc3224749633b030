//! Privacy settings of a user.

use std::{fmt, str::FromStr};

use postgres_types::ToSql;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sql::from_sql_text;

/// Who may see a user, besides the users on the visibility list.
//
// In SQL the enum `rollcall.presence_visibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, ToSql)]
#[serde(rename_all = "lowercase")]
#[postgres(name = "presence_visibility", rename_all = "lowercase")]
pub enum Visibility {
    /// Only users on the visibility list.
    Nobody,
    /// Members of the user's teams.
    Team,
    /// The user's accepted contacts.
    Contacts,
    Everyone,
}

from_sql_text!(Visibility);

impl Visibility {
    pub const ALL: [Self; 4] = [Self::Nobody, Self::Team, Self::Contacts, Self::Everyone];

    /// The value on the wire and in SQL.
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

/// The text is not a visibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of nobody, team, contacts, everyone")]
pub struct UnknownVisibility;

impl FromStr for Visibility {
    type Err = UnknownVisibility;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|value| value.as_str() == text).ok_or(UnknownVisibility)
    }
}

/// Privacy settings of a user.
//
// The database defines the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Settings {
    /// Who may see the user.
    pub visibility: Visibility,
    /// Whether viewers see when the user was last seen.
    pub show_last_seen: bool,
    /// Whether viewers see the user's activity and page.
    pub show_activity: bool,
    /// Whether viewers see the custom status.
    pub show_custom_status: bool,
    /// Whether participants of a conversation see the user's typing.
    pub show_typing: bool,
}

/// A partial update of the settings; `None` keeps the current value.
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
