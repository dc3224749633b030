//! Bundles: what they are about, how they come out of the database, and how they go back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::budget::Layer;

/// What kind of bundle; `bundle_type` in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleType {
    /// Who the user is.
    IdentityCore,
    /// How the user wants to be answered.
    GlobalPrefs,
    /// One topic.
    Topic,
    /// One person, project, organisation, tool or concept.
    Entity,
    /// The arc of one conversation.
    Conversation,
}

impl BundleType {
    /// The word in SQL and JSON.
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

    /// The type that the word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::IdentityCore, Self::GlobalPrefs, Self::Topic, Self::Entity, Self::Conversation];
        all.into_iter().find(|bundle_type| bundle_type.as_str() == word)
    }

    /// The layer of the prompt that it fills.
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

    /// Where it stands in the prompt, from 0 to 100.
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

/// What a bundle is about: its type, and which topic, entity or conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// What kind.
    #[serde(rename = "type")]
    pub bundle_type: BundleType,
    /// Of which; none of identity and preferences.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub ref_id: Option<Uuid>,
}

impl Subject {
    /// Who the user is.
    pub const IDENTITY: Self = Self { bundle_type: BundleType::IdentityCore, ref_id: None };
    /// How the user wants to be answered.
    pub const PREFERENCES: Self = Self { bundle_type: BundleType::GlobalPrefs, ref_id: None };

    /// Of a topic, an entity or a conversation.
    #[must_use]
    pub const fn new(bundle_type: BundleType, about: Uuid) -> Self {
        Self { bundle_type, ref_id: Some(about) }
    }
}

/// Why a bundle was served from the database, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Not dirty, not expired.
    Fresh,
    /// There is none.
    Missing,
    /// A source has changed since.
    Dirty,
    /// It is older than its time to live.
    Expired,
    /// It was asked to be compiled again.
    Forced,
}

/// A bundle as `rollcall.wanted_bundles` answers for it: the content of a fresh one, the sources of any other.
#[derive(Debug, Clone, Deserialize)]
pub struct WantedBundle {
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// Whether it is ready.
    pub reason: Readiness,
    /// Its row, where there is one.
    pub id: Option<Uuid>,
    /// The compiled text, of a fresh one.
    pub content: Option<String>,
    /// The text's tokens.
    #[serde(default)]
    pub tokens: usize,
    /// Which compilation.
    pub version: Option<i64>,
    /// The units in it.
    #[serde(default)]
    pub unit_ids: Vec<Uuid>,
    /// The memories in it.
    #[serde(default)]
    pub memory_ids: Vec<Uuid>,
    /// When it was compiled.
    pub compiled_at: Option<Timestamp>,
    /// What to compile it from; null where there is nothing such (any more).
    #[serde(default)]
    pub sources: Value,
}

/// A compiled bundle as `rollcall.keep_bundles` stores it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompiledBundle {
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// The text; none says that there is nothing to make a bundle of, and the row goes.
    pub content: Option<String>,
    /// The text's tokens.
    pub tokens: usize,
    /// The memories that went in.
    pub memory_ids: Vec<Uuid>,
    /// The units that went in.
    pub unit_ids: Vec<Uuid>,
    /// The instructions that went in.
    pub instruction_ids: Vec<Uuid>,
    /// The conversations that it names.
    pub conversation_ids: Vec<Uuid>,
    /// The topics that it names.
    pub topic_ids: Vec<Uuid>,
    /// Where it stands in the prompt.
    pub priority: u8,
}

impl CompiledBundle {
    /// There is nothing to make a bundle of.
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

/// The moment that something was read at: what was committed later is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadPoint {
    /// PostgreSQL's snapshot, as text.
    pub seeing: String,
    /// By the database's clock.
    pub read_at: Timestamp,
}

/// Bundles that were wanted, and when the answer was read.
#[derive(Debug, Clone, Deserialize)]
pub struct WantedBundles {
    /// In the order in which they were wanted.
    pub bundles: Vec<WantedBundle>,
    /// When.
    #[serde(flatten)]
    pub point: ReadPoint,
}
