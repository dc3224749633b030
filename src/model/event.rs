//! What the operator's back end says to sockets.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An event that the operator's back end pushes to sockets: `POST /api/presence/broadcast`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CustomEvent {
    /// What it is about, roughly.
    pub category: Category,
    /// Its name, 1 to 255 characters.
    pub event: String,
    /// A JSON object, passed on as it came.
    pub payload: Box<RawValue>,
}

impl PartialEq for CustomEvent {
    fn eq(&self, other: &Self) -> bool {
        (self.category, &self.event, self.payload.get())
            == (other.category, &other.event, other.payload.get())
    }
}

/// What a [`CustomEvent`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Presence.
    Presence,
    /// Typing.
    Typing,
    /// Anything else.
    Custom,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 3] = [Self::Presence, Self::Typing, Self::Custom];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Typing => "typing",
            Self::Custom => "custom",
        }
    }
}

/// The text is no category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of presence, typing, custom")]
pub struct UnknownCategory;

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|category| category.as_str() == text).ok_or(UnknownCategory)
    }
}
