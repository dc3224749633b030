//! Memory: takes units and facts from users' messages, in the background.
//!
//! The queue is a table that all nodes share; its entries are written by a trigger in the transaction of the message. A
//! node claims the oldest messages of some users, in turns, and stores what it learned in the transaction that deletes
//! the entries. [`units`] needs no model; [`facts`] asks the model of background calls.

pub mod facts;
pub mod units;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    engine::ContextEngine,
    provider::ProviderError,
    settings::Learning,
    store::memory::{self, Claim, Learned, LearnedUnits, LearningSources, StoreOutcome},
};
use crate::{
    auth::Principal,
    backoff::{Backoff, jittered},
    lifecycle::ErrorChain,
    pg::PgError,
    telemetry::metric,
};

/// Users whose messages are claimed at once, and processed concurrently.
const USERS_PER_CLAIM: i32 = 8;
const USER_CONCURRENCY: usize = 2;
/// Interval between polls of the queue: messages written over SQL send no notification.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Timeout of the facts of one batch. With the other statements of the batch less than the lease of three minutes.
const FACTS_TIMEOUT: Duration = Duration::from_secs(100);
/// Attempts of a message, over about a quarter of an hour; then it is given up.
const MAX_ATTEMPTS: i32 = 10;
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(600));
/// Delay after locks that others held.
const BUSY_DELAY: Duration = Duration::from_millis(500);

/// Why a batch is tried again.
enum Postponed {
    /// Another transaction held locks.
    Busy,
    Failed(String),
}

impl ContextEngine {
    /// Learns from messages until `stop` is cancelled.
    pub async fn run_learning(self: Arc<Self>, stop: CancellationToken) {
        if self.settings.learning == Learning::Off {
            return stop.cancelled().await;
        }
        let mut after = Uuid::nil();
        loop {
            let claimed = select! {
                () = stop.cancelled() => return,
                claimed = memory::claim(&self.database, after, USERS_PER_CLAIM) => claimed,
            };
            let claims = claimed.unwrap_or_else(|error| {
                tracing::warn!(error = %ErrorChain(&error), "claiming messages to learn from failed");
                Vec::new()
            });
            let Some(last) = claims.last() else {
                // From the first user on, and without delay if only the end of the list was reached.
                if std::mem::take(&mut after) == Uuid::nil() {
                    select! {
                        () = stop.cancelled() => return,
                        () = self.wake_learning.notified() => {}
                        () = sleep(jittered(POLL_INTERVAL, 0.5..1.0)) => {}
                    }
                }
                continue;
            };
            after = last.user.0;
            let work = stream::iter(claims).for_each_concurrent(USER_CONCURRENCY, |claim| self.learn(claim));
            select! {
                () = stop.cancelled() => return,
                () = work => {}
            }
        }
    }

    async fn learn(&self, claim: Claim) {
        let outcome = match self.try_learn(&claim).await {
            Ok(()) => "done",
            Err(postponed) => {
                let (error, delay) = match &postponed {
                    Postponed::Busy => ("locks are held by others", BUSY_DELAY),
                    Postponed::Failed(error) => {
                        (error.as_str(), BACKOFF.delay_for(claim.attempts.max(1).unsigned_abs()))
                    }
                };
                let given_up = claim.attempts >= MAX_ATTEMPTS;
                tracing::warn!(error, given_up, "learning from messages failed");
                let drop: &[i64] = if given_up { &claim.entries } else { &[] };
                if let Err(error) = memory::postpone(&self.database, &claim, error, delay, drop).await {
                    tracing::warn!(error = %ErrorChain(&error), "postponing messages to learn from failed");
                }
                if given_up { "given_up" } else { "postponed" }
            }
        };
        metrics::counter!(metric::CONTEXT_MESSAGES_LEARNED, "outcome" => outcome)
            .increment(claim.messages.len() as u64);
    }

    async fn try_learn(&self, claim: &Claim) -> Result<(), Postponed> {
        let failed = |error: PgError| Postponed::Failed(error.to_string());
        let caller = Principal::for_user(claim.user);
        let finds_facts = self.settings.learning == Learning::Model && self.providers.background().is_some();
        let sources: LearningSources = memory::sources(&self.database, &caller, &claim.messages, finds_facts)
            .await
            .map_err(|error| Postponed::Failed(error.to_string()))?;
        let messages = sources
            .messages
            .iter()
            .map(|message| LearnedUnits { id: message.id, units: units::statements(&message.content) })
            .collect();
        let mut learned = Learned { messages, ..Learned::default() };
        if finds_facts
            && !sources.messages.is_empty()
            && let Some(calls) = self.background_calls(claim.user).await
        {
            let found = timeout(FACTS_TIMEOUT, facts::find_facts(&calls, &sources)).await;
            match found.unwrap_or(Err(ProviderError::Timeout(FACTS_TIMEOUT))) {
                Ok(found) => (learned.memories, learned.forgotten) = (found.memories, found.forgotten),
                Err(error) => {
                    // The units now, the facts when the model answers.
                    if claim.attempts == 1 {
                        memory::store(&self.database, claim, &[], &learned).await.map_err(failed)?;
                    }
                    return Err(Postponed::Failed(error.to_string()));
                }
            }
        }
        match memory::store(&self.database, claim, &claim.entries, &learned).await.map_err(failed)? {
            // A lost lease: another node has the messages.
            StoreOutcome::Stored | StoreOutcome::Lost => Ok(()),
            StoreOutcome::Busy => Err(Postponed::Busy),
        }
    }
}
