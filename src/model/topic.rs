//! What is joined.

use std::sync::Arc;

/// A place where channels meet. A public and a private room of one name are two rooms, which never hear each other.
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    /// The name without `realtime:`; any characters.
    pub name: Arc<str>,
    /// Whether policies on `realtime.messages` decide who may enter.
    pub private: bool,
}

impl Topic {
    /// A room that anybody may enter.
    #[must_use]
    pub fn public(topic: impl Into<Arc<str>>) -> Self {
        Self { name: topic.into(), private: false }
    }

    /// A room that policies guard.
    #[must_use]
    pub fn private(topic: impl Into<Arc<str>>) -> Self {
        Self { name: topic.into(), private: true }
    }
}
