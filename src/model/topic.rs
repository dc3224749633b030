//! Topics of channels.

use std::sync::Arc;

/// The topic of a channel. The public and the private topic of one name are different topics. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    /// The name without `realtime:`. May contain any characters.
    pub name: Arc<str>,
    /// Whether policies on `realtime.messages` decide who may join.
    pub private: bool,
}

impl Topic {
    #[must_use]
    pub fn public(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), private: false }
    }

    #[must_use]
    pub fn private(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), private: true }
    }
}
