//! What a roll-up reads: units, profiles, and occurrences of phrases.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Result of `rollcall.roll_up_sources`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Sources {
    /// Units to process, oldest first.
    pub units: Vec<Unit>,
    /// Size of the user's whole corpus.
    pub corpus: Corpus,
    pub topics: Vec<KnownTopic>,
    pub entities: Vec<KnownEntity>,
}

/// An atomic content unit: a short text about one thing.
#[derive(Debug, Clone, Deserialize)]
pub struct Unit {
    pub id: Uuid,
    pub content: String,
    pub created_at: Timestamp,
    /// Words as `[token, stem]`. The stem of a stop word is empty; `null` ends a phrase.
    pub words: Vec<Option<(String, String)>>,
}

/// Size of a user's whole corpus.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Corpus {
    pub units: u32,
    /// Number of groups: conversations, and days for units without a conversation.
    pub groups: u32,
}

/// An existing topic.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownTopic {
    /// Key, unique per user.
    pub slug: String,
    pub label: String,
    pub aliases: Vec<String>,
}

/// An existing entity.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownEntity {
    /// Key, unique per user.
    pub slug: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub entity_type: EntityType,
}

/// Occurrences of a phrase in all units of a user.
#[derive(Debug, Clone, Default)]
pub struct Occurrence {
    /// At most `MAX_LINKED_UNITS` of the units.
    pub unit_ids: Vec<Uuid>,
    /// Number of units.
    pub units: u32,
    /// Number of groups that contain one of the units.
    pub groups: u32,
}

pub type Occurrences = HashMap<String, Occurrence>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntityType {
    Person,
    Project,
    /// A company, institution or similar.
    Organization,
    /// Software, a product or similar.
    Tool,
    Concept,
}
