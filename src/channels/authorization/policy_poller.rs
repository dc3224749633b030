//! Polls for changes of rights that are not announced: policy changes on a database without an event trigger,
//! and policies that depend on the time.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::authorizer::Shared;
use crate::lifecycle::ErrorChain;
use crate::pg::{
    Database, PgError,
    notification::AffectedCallers,
    queries::rights::{self, PolicyTraits},
};

/// Interval between polls while there are subscriptions.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum age of the result of a policy that depends on the time.
const MAX_RESULT_AGE: Duration = Duration::from_secs(60);

pub(super) struct PolicyPoller {
    database: Database,
    shared: Arc<Shared>,
    /// Traits of the current policies. `None` before the first poll and after each change of the policies.
    traits: Option<PolicyTraits>,
    fingerprint: Option<i64>,
}

impl PolicyPoller {
    pub(super) fn new(database: Database, shared: Arc<Shared>) -> Self {
        Self { database, shared, traits: None, fingerprint: None }
    }

    pub(super) async fn run(mut self) {
        let mut interval = interval(POLL_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let subscribed = {
                let mut cache = self.shared.cache.lock();
                cache.evict_expired();
                if cache.take_policies_changed() {
                    self.traits = None;
                }
                cache.subscribed()
            };
            // An idle server sends no queries.
            if subscribed == 0 {
                continue;
            }
            match self.poll().await {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(error = %ErrorChain(&error), "polling channel policies failed")
                }
            }
            if self.traits.is_some_and(|traits| traits.is_time_dependent) {
                // Spread the rechecks over at least half of the maximum age.
                let max = subscribed / (MAX_RESULT_AGE.as_secs() as usize / 2) + 1;
                self.shared.cache.lock().recheck_older_than(MAX_RESULT_AGE, max);
                self.shared.wake.notify_one();
            }
        }
    }

    async fn poll(&mut self) -> Result<(), PgError> {
        let traits = match self.traits {
            Some(traits) => traits,
            None => {
                let read = |connection| async move { rights::policy_traits(&connection).await };
                *self.traits.insert(self.database.within(POLL_TIMEOUT, read).await?)
            }
        };
        if traits.is_announced {
            return Ok(());
        }
        let read = |connection| async move { rights::policy_fingerprint(&connection).await };
        let fingerprint = self.database.within(POLL_TIMEOUT, read).await?;
        // Also on the first poll: results from before it may be outdated.
        if self.fingerprint.replace(fingerprint) != Some(fingerprint) {
            self.traits = None;
            self.shared.cache.lock().invalidate(&AffectedCallers::All);
            self.shared.wake.notify_one();
        }
        Ok(())
    }
}
