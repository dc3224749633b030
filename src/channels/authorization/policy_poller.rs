//! Looks for changes of rights that nobody announces: policies on a database without an event trigger, and policies that
//! look at the time.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::authorizer::Shared;
use crate::pg::{
    Database, PgError,
    queries::rights::{self, PolicyTraits},
};

/// How often it looks, while anybody watches.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a look may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// How old the answer of a policy that looks at the time may become.
const MAX_RESULT_AGE: Duration = Duration::from_secs(60);

pub(super) struct PolicyPoller {
    database: Database,
    shared: Arc<Shared>,
    /// What is known of the policies as such; nothing before the first look and after each change of them.
    traits: Option<PolicyTraits>,
    fingerprint: Option<i64>,
}

impl PolicyPoller {
    pub fn new(database: Database, shared: Arc<Shared>) -> Self {
        Self { database, shared, traits: None, fingerprint: None }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        let mut every = interval(POLL_INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let watched = {
                let mut verdicts = self.shared.cache.lock();
                verdicts.evict_expired();
                if verdicts.take_policies_changed() {
                    self.traits = None;
                }
                verdicts.subscribed()
            };
            // An idle server costs the database nothing.
            if watched == 0 {
                continue;
            }
            match timeout(POLL_TIMEOUT, self.poll()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = ?error, "could not look at the policies of channels")
                }
                Err(_) => tracing::debug!("looking at the policies of channels took too long"),
            }
            if self.traits.is_some_and(|situation| situation.is_time_dependent) {
                // Spread over half of the time, at worst.
                let most = watched / (MAX_RESULT_AGE.as_secs() as usize / 2) + 1;
                self.shared.cache.lock().recheck_older_than(MAX_RESULT_AGE, most);
                self.shared.wake.notify_one();
            }
        }
    }

    async fn poll(&mut self) -> Result<(), PgError> {
        let situation = match self.traits {
            Some(situation) => situation,
            None => {
                *self.traits.insert(rights::policy_traits(&self.database.server_connection().await?).await?)
            }
        };
        if situation.is_announced {
            return Ok(());
        }
        let fingerprint = rights::policy_fingerprint(&self.database.server_connection().await?).await?;
        // What somebody was told before the first look may have changed before it.
        if self.fingerprint.replace(fingerprint) != Some(fingerprint) {
            self.traits = None;
            self.shared.cache.lock().invalidate(&[]);
            self.shared.wake.notify_one();
        }
        Ok(())
    }
}
