//! Roll-ups: derive topic and entity profiles from a user's units.
//!
//! [`topics`] finds phrases that are distinctive in the user's own units. [`entities`] finds names by their original
//! casing. A model, if configured, suggests names ([`hints`]), which count only if they occur in the units.

pub mod entities;
pub mod hints;
pub mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    engine::{ContextEngine, ContextError},
    store::{
        bundles::ReadError,
        roll_ups::{self, RollUpSummary},
    },
};
use crate::backoff::jittered;
use crate::lifecycle::ErrorChain;
use crate::{auth::Principal, model::UserId};

/// Default number of units per roll-up.
pub const DEFAULT_LIMIT: i32 = 50;
/// Maximum number of units that a request may ask for.
pub const MAX_LIMIT: i32 = 500;
/// Users per scheduled round.
const USERS_PER_ROUND: i32 = 100;
/// Roll-ups per user in one round.
const BATCHES_PER_USER: usize = 10;
/// Units that are linked to a phrase in one roll-up.
const MAX_LINKED_UNITS: i32 = 500;

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
    pub entity_type: entities::EntityType,
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

/// Input of `rollcall.apply_roll_up`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RollUpResult {
    pub units: Vec<Uuid>,
    pub topics: Vec<topics::FoundTopic>,
    pub entities: Vec<entities::FoundEntity>,
}

#[derive(Debug, thiserror::Error)]
pub enum RollUpError {
    /// Another roll-up of the user holds the lease, or took it over.
    #[error("a roll-up of this user is already running")]
    AlreadyRunning,
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl From<ReadError> for RollUpError {
    fn from(error: ReadError) -> Self {
        Self::Context(error.into())
    }
}

impl From<crate::pg::PgError> for RollUpError {
    fn from(error: crate::pg::PgError) -> Self {
        Self::Context(error.into())
    }
}

/// Converts a name to a key: lowercase letters and digits, everything else a dash; at most 200 characters.
#[must_use]
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    slug.chars().take(200).collect()
}

/// Trigram similarity from 0 to 1, as `pg_trgm` computes it.
#[must_use]
pub fn trigram_similarity(one: &str, other: &str) -> f64 {
    let trigrams = |text: &str| -> std::collections::HashSet<[char; 3]> {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let padded = words.map(|word| format!("  {word} ").chars().collect::<Vec<_>>());
        padded
            .flat_map(|word| word.windows(3).map(|three| [three[0], three[1], three[2]]).collect::<Vec<_>>())
            .collect()
    };
    let (one, other) = (trigrams(one), trigrams(other));
    let common = one.intersection(&other).count();
    let all = one.len() + other.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// Whether two names are the same: equal slugs, similar trigrams, or one is a short form of the other.
#[must_use]
pub fn is_same_name(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let (short, long) = (short.to_lowercase(), long.to_lowercase());
    let is_short_form = short.len() >= 5
        && long.starts_with(&short)
        && !long[short.len()..].starts_with(' ')
        && short.len() * 10 >= long.len() * 6;
    slug(&short) == slug(&long)
        || is_short_form
        || (short.len() >= 4 && trigram_similarity(&short, &long) >= 0.65)
}

impl ContextEngine {
    /// Processes up to `limit` of the user's units, oldest first. Across all nodes one roll-up per user runs at a time;
    /// `force` takes over its lease.
    ///
    /// # Errors
    ///
    /// [`RollUpError::AlreadyRunning`] if another roll-up holds the lease or took it over.
    pub async fn roll_up(&self, user: UserId, limit: i32, force: bool) -> Result<RollUpSummary, RollUpError> {
        let lease =
            roll_ups::acquire_lease(&self.database, user, force).await?.ok_or(RollUpError::AlreadyRunning)?;
        let result = self.roll_up_with_lease(user, lease, limit).await;
        // If this fails, the lease expires.
        if let Err(error) = roll_ups::release_lease(&self.database, user, lease).await {
            tracing::warn!(error = %ErrorChain(&error), "releasing the lease of a roll-up failed");
        }
        result
    }

    async fn roll_up_with_lease(
        &self,
        user: UserId,
        lease: Uuid,
        limit: i32,
    ) -> Result<RollUpSummary, RollUpError> {
        let caller = Principal::for_user(user);
        let sources: Sources = roll_ups::load_sources(&self.database, &caller, limit).await?;
        if sources.units.is_empty() {
            return Ok(RollUpSummary::default());
        }
        let hints = match self.settings.providers.default_model() {
            Some(model) => hints::request_hints(model, &sources.units).await,
            None => hints::Hints::default(),
        };
        let candidates = topics::find_candidates(&sources, &hints);
        let mentions = entities::find_mentions(&sources, &hints);
        let phrases: Vec<&str> = candidates
            .iter()
            .map(|it| it.phrase.as_str())
            .chain(mentions.iter().map(|it| it.name.as_str()))
            .collect();
        let occurrences = roll_ups::find_phrases(&self.database, &caller, &phrases, MAX_LINKED_UNITS).await?;
        let entities = entities::build_entities(&sources, &mentions, &occurrences);
        let result = RollUpResult {
            units: sources.units.iter().map(|unit| unit.id).collect(),
            topics: topics::build_topics(&sources, &candidates, &occurrences, &entities),
            entities,
        };
        roll_ups::store(&self.database, user, lease, &result).await?.ok_or(RollUpError::AlreadyRunning)
    }

    /// Processes new units of all users periodically until `stop` is cancelled.
    pub async fn run_roll_ups(self: Arc<Self>, stop: CancellationToken) {
        let Some(interval) = self.settings.roll_up_interval else { return stop.cancelled().await };
        loop {
            select! {
                () = stop.cancelled() => return,
                () = sleep(jittered(interval, 0.5..1.5)) => {}
            }
            select! {
                () = stop.cancelled() => return,
                () = self.roll_up_round() => {}
            }
        }
    }

    async fn roll_up_round(&self) {
        let due = match roll_ups::users_due(&self.database, USERS_PER_ROUND).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "querying users due for a roll-up failed");
                return;
            }
        };
        if due.is_empty() {
            return;
        }
        let (users, mut units) = (due.len(), 0);
        tracing::info!(users, "roll-up round started");
        for user in due {
            for _ in 0..BATCHES_PER_USER {
                match self.roll_up(user, DEFAULT_LIMIT, false).await {
                    Ok(applied) => {
                        units += applied.acus_processed;
                        if applied.acus_processed < i64::from(DEFAULT_LIMIT) {
                            break;
                        }
                    }
                    Err(RollUpError::AlreadyRunning) => break,
                    Err(error) => {
                        tracing::warn!(error = %ErrorChain(&error), "roll-up failed");
                        break;
                    }
                }
            }
            // Background work yields to requests.
            sleep(Duration::from_millis(50)).await;
        }
        tracing::info!(users, units, "roll-up round finished");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_letters_trigrams_or_short_form() {
        assert!(is_same_name("PostgreSQL", "postgresql"));
        assert!(is_same_name("Postgres", "PostgreSQL"));
        assert!(is_same_name("Elasticsearch", "Elastisearch"));
        assert!(!is_same_name("Anna", "Hanna Berg"));
        assert!(!is_same_name("Java", "JavaScript"), "too short to be a short form");
        assert!(!is_same_name("Berlin office", "Berlin"), "a part of a name is not the name");
    }

    #[test]
    fn slugs_are_lowercase_words_joined_by_dashes() {
        assert_eq!(slug("  Row-Level  Security! "), "row-level-security");
        assert_eq!(slug("Über C++"), "über-c");
    }
}
