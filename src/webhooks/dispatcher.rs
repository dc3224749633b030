//! The task that publishes events and delivers them to webhooks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{select, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Outcome, WebhookClient, WebhookSettings,
    client::{Message, body},
};
use crate::{
    backoff::{Backoff, jittered},
    clock::Clock,
    lifecycle::ErrorChain,
    model::NodeId,
    pg::{
        Database, PgError,
        queries::webhooks::{self, Batch, Finished, Published},
    },
    telemetry::metric,
};

/// Requests of this node at a time, at most one per webhook.
const MAX_REQUESTS: usize = 16;
/// Time between two looks for events while they are recorded.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time between two looks while nobody asks for events.
const IDLE_INTERVAL: Duration = Duration::from_secs(2);
/// Time between comparisons of all members of channels with what events told, and of the totals.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(600);
const TOTALS_INTERVAL: Duration = Duration::from_secs(15);
/// Timeout of the statements.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a lease lasts beyond the timeout of the request.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// Delays between attempts: 0.5 to 1 s at first, 2.5 to 5 min at most.
const RETRIES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// Delays after a failure of the database.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Publishes events and delivers webhooks; [`run`](Self::run) runs it.
pub struct Dispatcher {
    database: Database,
    node: NodeId,
    client: WebhookClient,
    clock: Arc<dyn Clock>,
    settings: WebhookSettings,
    requests: JoinSet<()>,
    compared: Option<Instant>,
    counted: Option<Instant>,
}

impl Dispatcher {
    #[must_use]
    pub fn new(
        database: Database,
        node: NodeId,
        client: WebhookClient,
        clock: Arc<dyn Clock>,
        settings: WebhookSettings,
    ) -> Self {
        Self {
            database,
            node,
            client,
            clock,
            settings,
            requests: JoinSet::new(),
            compared: None,
            counted: None,
        }
    }

    /// Runs until `stop` is cancelled. Requests in flight are given up then: their leases end with that of the node,
    /// and another node sends them again.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
        loop {
            let pause = match self.run_once().await {
                Ok(pause) => {
                    backoff.reset();
                    pause
                }
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "webhook delivery is interrupted");
                    backoff.next_delay()
                }
            };
            select! {
                () = stop.cancelled() => return,
                // The next batch of that webhook need not wait.
                Some(ended) = self.requests.join_next(), if !self.requests.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(error = %error, "a webhook delivery panicked");
                    }
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// Publishes, and starts what can be delivered. Returns how long to wait.
    async fn run_once(&mut self) -> Result<Duration, PgError> {
        let is_due =
            |last: Option<Instant>, interval| last.is_none_or(|last: Instant| last.elapsed() > interval);
        let compare = is_due(self.compared, COMPARISON_INTERVAL);
        let publish = |connection| async move { webhooks::publish(&connection, compare).await };
        let Published { recording, count } =
            self.database.within_delivery(STATEMENT_TIMEOUT, publish).await?;
        if compare {
            self.compared = Some(Instant::now());
        }
        metrics::counter!(metric::EVENTS_PUBLISHED).increment(count);
        if is_due(self.counted, TOTALS_INTERVAL) {
            self.count().await?;
        }
        let free = MAX_REQUESTS.saturating_sub(self.requests.len());
        let (node, lease) = (self.node, self.settings.timeout + LEASE_MARGIN);
        let claim = |connection| async move { webhooks::claim(&connection, node, lease, free).await };
        for batch in self.database.within_delivery(STATEMENT_TIMEOUT, claim).await? {
            self.start(batch);
        }
        Ok(jittered(if recording { INTERVAL } else { IDLE_INTERVAL }, 0.8..1.2))
    }

    async fn count(&mut self) -> Result<(), PgError> {
        let count = |connection| async move { webhooks::totals(&connection).await };
        let (lag, dead_letters) = self.database.within_delivery(STATEMENT_TIMEOUT, count).await?;
        metrics::gauge!(metric::WEBHOOK_LAG).set(lag);
        metrics::gauge!(metric::WEBHOOK_DEAD_LETTERS).set(dead_letters as f64);
        self.counted = Some(Instant::now());
        Ok(())
    }

    fn start(&mut self, batch: Batch) {
        let (client, database, now) = (self.client.clone(), self.database.clone(), self.clock.now());
        let max_attempts = self.settings.max_attempts;
        self.requests.spawn(async move {
            let started = Instant::now();
            let body = body(now, &batch.events);
            let message = Message { url: &batch.url, secrets: &batch.secrets, id: &batch.message_id, body };
            let outcome = client.send(message).await;
            let finished = finished(&batch, &outcome, max_attempts);
            metrics::histogram!(metric::WEBHOOK_REQUEST).record(started.elapsed());
            metrics::counter!(metric::WEBHOOK_REQUESTS, "outcome" => finished.outcome).increment(1);
            let record = |connection| async move { webhooks::finish(&connection, &finished).await };
            // Without it the lease expires, and the batch is sent again with the same ID.
            if let Err(error) = database.within_delivery(STATEMENT_TIMEOUT, record).await {
                tracing::warn!(webhook.id = %batch.webhook, error = %ErrorChain(&error), "recording a webhook delivery failed");
            }
        });
    }
}

fn finished(batch: &Batch, outcome: &Outcome, max_attempts: i32) -> Finished {
    let (webhook, lease) = (batch.webhook, batch.lease);
    let base = Finished {
        webhook,
        lease,
        outcome: "delivered",
        status: None,
        error: None,
        delay: Duration::ZERO,
        max_attempts,
    };
    match outcome {
        Outcome::Delivered(status) => Finished { status: Some(i32::from(*status)), ..base },
        Outcome::Gone => {
            tracing::warn!(webhook.id = %webhook, "webhook answered 410 and was disabled");
            let error = Some("status 410: the webhook was disabled".to_owned());
            Finished { outcome: "gone", status: Some(410), error, ..base }
        }
        Outcome::Failed { status, error, retry_after } => {
            tracing::warn!(webhook.id = %webhook, attempt = batch.attempt, error, "webhook delivery failed");
            let delay = RETRIES.delay_for(batch.attempt.unsigned_abs()).max(retry_after.unwrap_or_default());
            let (status, error) = (status.map(i32::from), Some(error.clone()));
            Finished { outcome: "failed", status, error, delay, ..base }
        }
    }
}
