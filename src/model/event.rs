//! Custom events from the operator's back end.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A custom event that the operator's back end sends to sockets: `POST /api/presence/broadcast`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub struct CustomEvent {
    /// Category of the event.
    pub category: Category,
    /// Name of the event, 1 to 255 characters.
    pub event: String,
    /// A JSON object, forwarded unchanged.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
}

impl PartialEq for CustomEvent {
    fn eq(&self, other: &Self) -> bool {
        (self.category, &self.event, self.payload.get())
            == (other.category, &other.event, other.payload.get())
    }
}

/// Category of a custom event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    Presence,
    Typing,
    Custom,
}

impl Category {
    pub const ALL: [Self; 3] = [Self::Presence, Self::Typing, Self::Custom];

    /// The value on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Typing => "typing",
            Self::Custom => "custom",
        }
    }
}

/// The text is not a category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of presence, typing, custom")]
pub struct UnknownCategory;

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|category| category.as_str() == text).ok_or(UnknownCategory)
    }
}
