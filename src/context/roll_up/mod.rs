//! Roll-ups: derive topic and entity profiles from a user's units.
//!
//! [`topics`] finds phrases that are distinctive in the user's own units. [`entities`] finds names by their original
//! casing. A model, if configured, suggests names ([`hints`]), which count only if they occur in the units.

pub mod entities;
pub mod hints;
pub mod names;
pub mod result;
pub mod sources;
pub mod topics;

use std::{sync::Arc, time::Duration};

use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::{
    result::RollUpResult,
    sources::{Occurrence, Occurrences, Sources},
};
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
        let hints = match self.background_calls(user).await {
            Some(calls) => hints::request_hints(&calls, &sources.units).await,
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
