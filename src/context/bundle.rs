//! Types of bundles as they are read from and stored in the database.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::budget::Layer;

/// Type of a bundle; `bundle_type` in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleType {
    IdentityCore,
    /// The user's instructions and preferences.
    GlobalPrefs,
    Topic,
    /// A person, project, organization, tool or concept.
    Entity,
    /// Summary of a conversation.
    Conversation,
}

impl BundleType {
    /// Name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdentityCore => "identity_core",
            Self::GlobalPrefs => "global_prefs",
            Self::Topic => "topic",
            Self::Entity => "entity",
            Self::Conversation => "conversation",
        }
    }

    /// Parses the name in SQL and JSON.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::IdentityCore, Self::GlobalPrefs, Self::Topic, Self::Entity, Self::Conversation];
        all.into_iter().find(|bundle_type| bundle_type.as_str() == name)
    }

    /// Layer of the prompt.
    #[must_use]
    pub const fn layer(self) -> Layer {
        match self {
            Self::IdentityCore => Layer::Identity,
            Self::GlobalPrefs => Layer::Preferences,
            Self::Topic => Layer::Topic,
            Self::Entity => Layer::Entity,
            Self::Conversation => Layer::Conversation,
        }
    }

    /// Priority in the prompt, from 0 to 100.
    #[must_use]
    pub const fn priority(self) -> u8 {
        match self {
            Self::IdentityCore => 100,
            Self::GlobalPrefs => 95,
            Self::Conversation => 90,
            Self::Topic => 80,
            Self::Entity => 70,
        }
    }
}

/// Subject of a bundle: its type and the topic, entity or conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    #[serde(rename = "type")]
    pub bundle_type: BundleType,
    /// ID of the topic, entity or conversation; `None` for identity and preferences.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub ref_id: Option<Uuid>,
}

impl Subject {
    pub const IDENTITY: Self = Self { bundle_type: BundleType::IdentityCore, ref_id: None };
    /// The user's instructions and preferences.
    pub const PREFERENCES: Self = Self { bundle_type: BundleType::GlobalPrefs, ref_id: None };

    /// The bundle of a topic, an entity or a conversation.
    #[must_use]
    pub const fn new(bundle_type: BundleType, about: Uuid) -> Self {
        Self { bundle_type, ref_id: Some(about) }
    }
}

/// Whether the stored bundle can be used, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BundleReadiness)]
pub enum Readiness {
    /// Neither dirty nor expired.
    Fresh,
    /// No bundle is stored.
    Missing,
    /// A source changed after the compilation.
    Dirty,
    /// The time to live is exceeded.
    Expired,
    /// The request demands a new compilation.
    Forced,
}

/// A row of `rollcall.wanted_bundles`: the content of a fresh bundle, the sources of any other.
#[derive(Debug, Clone, Deserialize)]
pub struct WantedBundle {
    #[serde(flatten)]
    pub subject: Subject,
    pub reason: Readiness,
    /// ID of the stored bundle, if any.
    pub id: Option<Uuid>,
    /// Text of a fresh bundle.
    pub content: Option<String>,
    #[serde(default)]
    pub tokens: usize,
    /// Increases with each compilation.
    pub version: Option<i64>,
    /// Units in the text.
    #[serde(default)]
    pub unit_ids: Vec<Uuid>,
    /// Memories in the text.
    #[serde(default)]
    pub memory_ids: Vec<Uuid>,
    pub compiled_at: Option<Timestamp>,
    /// Input for the compiler; null if the subject does not exist (any more).
    #[serde(default)]
    pub sources: Value,
}

/// A compiled bundle, as `rollcall_internal.store_compiled_bundles` stores it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompiledBundle {
    #[serde(flatten)]
    pub subject: Subject,
    /// Text; `None` deletes the stored bundle because its subject does not exist.
    pub content: Option<String>,
    pub tokens: usize,
    /// Memories in the text.
    pub memory_ids: Vec<Uuid>,
    /// Units in the text.
    pub unit_ids: Vec<Uuid>,
    /// Instructions in the text.
    pub instruction_ids: Vec<Uuid>,
    pub conversation_ids: Vec<Uuid>,
    pub topic_ids: Vec<Uuid>,
    /// Priority in the prompt, from 0 to 100.
    pub priority: u8,
}

impl CompiledBundle {
    /// Result for a subject that does not exist.
    #[must_use]
    pub const fn absent(subject: Subject) -> Self {
        Self {
            subject,
            content: None,
            tokens: 0,
            memory_ids: Vec::new(),
            unit_ids: Vec::new(),
            instruction_ids: Vec::new(),
            conversation_ids: Vec::new(),
            topic_ids: Vec::new(),
            priority: 0,
        }
    }
}

/// Snapshot in which sources were read. Storing compares later changes with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadPoint {
    /// `pg_current_snapshot()` as text.
    pub seeing: String,
    /// Version of policies and grants; see `rollcall.context_access_version`. `None` if it changed while reading.
    pub access: Option<i64>,
    /// Clock of the database.
    pub read_at: Timestamp,
}

/// Wanted bundles, and the snapshot in which they were read.
#[derive(Debug, Clone, Deserialize)]
pub struct WantedBundles {
    /// In the order of the request.
    pub bundles: Vec<WantedBundle>,
    #[serde(flatten)]
    pub point: ReadPoint,
}
