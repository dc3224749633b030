//! The roll-up: what a user's units are about, as profiles of topics and entities.
//!
//! [`terms`] finds topics: phrases weighed against the user's own corpus, so that a word that is everywhere is about
//! nothing. [`names`] finds entities in the original casing. A model, where there is one, [`hints`] at both; what it
//! says has to be in the units all the same.

pub mod entities;
pub mod hints;
pub mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::Rng;
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
use crate::{auth::Principal, model::UserId};

/// Units that are taken in at once, unless a request says otherwise, and at most.
pub const DEFAULT_LIMIT: i32 = 50;
/// The most that a request may ask for.
pub const MAX_LIMIT: i32 = 500;
/// Users of one round of the schedule.
const USERS_PER_ROUND: i32 = 100;
/// Portions of one user in one round.
const BATCHES_PER_USER: usize = 10;
/// Units of a phrase that are linked at once.
const MAX_LINKED_UNITS: i32 = 500;

/// What a roll-up works on: `rollcall.roll_up_sources`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Sources {
    /// The units to take in, oldest first.
    pub units: Vec<Unit>,
    /// How much the user has in all.
    pub corpus: Corpus,
    /// The topics that there are.
    pub topics: Vec<KnownTopic>,
    /// The entities that there are.
    pub entities: Vec<KnownEntity>,
}

/// One unit.
#[derive(Debug, Clone, Deserialize)]
pub struct Unit {
    /// Which.
    pub id: Uuid,
    /// What it says.
    pub content: String,
    /// When it came.
    pub created_at: Timestamp,
    /// Its words as `[token, stem]`, an empty stem for a stop word; `null` ends a phrase.
    pub words: Vec<Option<(String, String)>>,
}

/// How much a user has in all.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Corpus {
    /// Active units.
    pub units: u32,
    /// Conversations, and days without one.
    pub groups: u32,
}

/// A topic that there is.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownTopic {
    /// Its key.
    pub slug: String,
    /// Its name.
    pub label: String,
    /// Other names.
    pub aliases: Vec<String>,
}

/// An entity that there is.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownEntity {
    /// Its key.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// What it is.
    pub entity_type: entities::EntityType,
}

/// Where a phrase stands among all of a user's units.
#[derive(Debug, Clone, Default)]
pub struct Occurrence {
    /// The units, as far as they are linked at once.
    pub unit_ids: Vec<Uuid>,
    /// How many there are.
    pub units: u32,
    /// In how many groups they lie.
    pub groups: u32,
}

/// Occurrences by phrase.
pub type Occurrences = HashMap<String, Occurrence>;

/// What a roll-up found, as `rollcall.apply_roll_up` takes it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RollUpResult {
    /// The units that were taken in.
    pub units: Vec<Uuid>,
    /// Topics with their units.
    pub topics: Vec<topics::FoundTopic>,
    /// Entities with their units.
    pub entities: Vec<entities::FoundEntity>,
}

/// A roll-up did not come about.
#[derive(Debug, thiserror::Error)]
pub enum RollUpError {
    /// One is running, here or on another node, or has taken this one's place.
    #[error("a roll-up of this user is running")]
    AlreadyRunning,
    /// The database does not answer.
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

/// A name as a key: small letters and digits, everything else a dash.
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

/// How alike two names are, from 0 to 1: the share of trigrams that they have in common, as `pg_trgm` counts them.
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

/// Whether two names mean the same: the same letters, nearly the same trigrams, or one a short form of the other.
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
    /// Takes in up to `limit` of the user's units, oldest first. At most one a user at a time across all nodes; `force`
    /// takes the place of one that is running.
    ///
    /// # Errors
    ///
    /// [`RollUpError::Running`] where one is, or where another has taken this one's place.
    pub async fn roll_up(&self, user: UserId, limit: i32, force: bool) -> Result<RollUpSummary, RollUpError> {
        let lease =
            roll_ups::acquire_lease(&self.database, user, force).await?.ok_or(RollUpError::AlreadyRunning)?;
        let outcome = self.roll_up_with_lease(user, lease, limit).await;
        // Should this fail as well, the lease runs out by itself.
        if let Err(error) = roll_ups::release_lease(&self.database, user, lease).await {
            tracing::warn!(error = ?error, "could not give back the lease of a roll-up");
        }
        outcome
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
        let found = RollUpResult {
            units: sources.units.iter().map(|unit| unit.id).collect(),
            topics: topics::build_topics(&sources, &candidates, &occurrences, &entities),
            entities,
        };
        roll_ups::store(&self.database, user, lease, &found).await?.ok_or(RollUpError::AlreadyRunning)
    }

    /// Rolls up everybody's new units now and then.
    pub async fn run_roll_ups(self: Arc<Self>, stop: CancellationToken) {
        let Some(every) = self.settings.roll_up_interval else { return stop.cancelled().await };
        loop {
            select! {
                () = stop.cancelled() => return,
                () = sleep(every.mul_f64(rand::rng().random_range(0.5..1.5))) => {}
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
                tracing::warn!(error = ?error, "could not look for units to roll up");
                return;
            }
        };
        if due.is_empty() {
            return;
        }
        let (users, mut units) = (due.len(), 0);
        tracing::info!(users, "rolling up new units");
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
                        tracing::warn!(error = ?error, "a roll-up failed");
                        break;
                    }
                }
            }
            // Nobody waits for this: requests go first.
            sleep(Duration::from_millis(50)).await;
        }
        tracing::info!(users, units, "rolled up");
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
