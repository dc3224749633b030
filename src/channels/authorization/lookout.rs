//! Looks for changes of rights that nobody announces: policies on a database without an event trigger, and policies that
//! look at the time.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::authorizer::Shared;
use crate::pg::{
    Database, PgError,
    queries::rights::{self, Situation},
};

/// How often it looks, while anybody watches.
const EVERY: Duration = Duration::from_secs(1);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How old the answer of a policy that looks at the time may become.
const TIMED_FOR: Duration = Duration::from_secs(60);

pub(super) struct Lookout {
    database: Database,
    shared: Arc<Shared>,
    /// What is known of the policies as such; nothing before the first look and after each change of them.
    situation: Option<Situation>,
    fingerprint: Option<i64>,
}

impl Lookout {
    pub fn new(database: Database, shared: Arc<Shared>) -> Self {
        Self { database, shared, situation: None, fingerprint: None }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let watched = {
                let mut verdicts = self.shared.verdicts.lock();
                verdicts.forget_old();
                if verdicts.take_policies_changed() {
                    self.situation = None;
                }
                verdicts.watched()
            };
            // An idle server costs the database nothing.
            if watched == 0 {
                continue;
            }
            match timeout(LIMIT, self.learn()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = ?error, "could not look at the policies of channels")
                }
                Err(_) => tracing::debug!("looking at the policies of channels took too long"),
            }
            if self.situation.is_some_and(|situation| situation.timed) {
                // Spread over half of the time, at worst.
                let most = watched / (TIMED_FOR.as_secs() as usize / 2) + 1;
                self.shared.verdicts.lock().age(TIMED_FOR, most);
                self.shared.wake.notify_one();
            }
        }
    }

    async fn learn(&mut self) -> Result<(), PgError> {
        let situation = match self.situation {
            Some(situation) => situation,
            None => *self.situation.insert(rights::learn(&self.database.own().await?).await?),
        };
        if situation.announced {
            return Ok(());
        }
        let fingerprint = rights::fingerprint(&self.database.own().await?).await?;
        // What somebody was told before the first look may have changed before it.
        if self.fingerprint.replace(fingerprint) != Some(fingerprint) {
            self.situation = None;
            self.shared.verdicts.lock().void(&[]);
            self.shared.wake.notify_one();
        }
        Ok(())
    }
}
