//! Relays notifications from the write-ahead log, so that transactions of applications need not send them.
//!
//! A transaction that called `pg_notify` holds a lock of the whole server from before its commit until the commit is on
//! disk, so all such transactions commit one after the other. While a node is the relay, `rollcall_internal.notify` writes
//! a logical message instead, which takes no lock. The relay reads the messages in commit order and sends them to all
//! nodes, many in one transaction.
//!
//! **Election.** The row in `rollcall_internal.relay` names the relay. Its lease is as long as the log is read: the relay
//! writes a mark and renews the lease when the mark comes back. When the lease ends, transactions send notifications
//! themselves, and another node claims the relay. The session of the relay also holds an advisory lock, so a node whose
//! process or connection has ended is replaced at once.
//!
//! **Missed notifications.** What a failed relay left in the log is not sent. The next relay therefore makes all nodes read
//! the tables, at once and again when its stream has started. Messages that are committed after that are in the stream.

mod batch;

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use self::batch::{Batch, MessageReader};
use super::{
    Database, PgError,
    notification::NotificationKey,
    queries::relay::{self, Claim},
    replication::{ReplicationError, ReplicationStream, SlotKind, StreamContent, StreamEvent},
    session::{StatementLimits, within},
};
use crate::{
    backoff::{Backoff, jittered},
    lifecycle::ErrorChain,
    model::NodeId,
    telemetry::metric,
};

const CONTENT: StreamContent<'_> = StreamContent::LogicalMessages { publication: "rollcall_relay" };
/// Interval at which other nodes try to become the relay.
const CLAIM_INTERVAL: Duration = Duration::from_millis(100);
/// Duration of a claim while the stream starts, which waits for open transactions, and the interval of its renewal.
const CLAIM: Duration = Duration::from_secs(3);
const CLAIM_RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// Duration of the lease. With [`CLAIM_INTERVAL`], a node that hangs or cannot be reached is replaced within two seconds.
const LEASE: Duration = Duration::from_secs(1);
const RENEWAL_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum duration of a statement of the relay.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const LIMITS: StatementLimits =
    StatementLimits { statement_timeout: Duration::from_millis(1_800), lock_timeout: Duration::ZERO };
/// Delays while the relay does not start. The maximum is long, because the cause may be the configuration of the database.
const START_BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(60));
/// Delays after a relay that had started.
const RESTART_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The relay of this node; [`run`](Self::run) is its task.
pub struct Relay {
    database: Database,
    node: NodeId,
}

/// Why this node is not the relay any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Another node is the relay.
    OtherNode,
    Stopped,
}

/// Why the relay failed.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("{0}")]
    Impossible(String),
    #[error("the log cannot be read")]
    Stream(#[from] ReplicationError),
    #[error("a statement failed")]
    Statement(#[from] PgError),
}

impl Relay {
    #[must_use]
    pub const fn new(database: Database, node: NodeId) -> Self {
        Self { database, node }
    }

    /// Is the relay whenever no other node is, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let (mut start_backoff, mut restart_backoff) = (START_BACKOFF, RESTART_BACKOFF);
        let mut reported = None;
        loop {
            let mut has_started = false;
            let delay = match self.relay(&stop, &mut has_started).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::OtherNode) => {
                    (start_backoff, restart_backoff) = (START_BACKOFF, RESTART_BACKOFF);
                    reported = None;
                    jittered(CLAIM_INTERVAL, 0.75..1.0)
                }
                Err(error) if has_started => {
                    metrics::counter!(metric::RELAY_FAILURES).increment(1);
                    tracing::warn!(error = %ErrorChain(&error), "the relay of notifications ended; starting it again");
                    start_backoff = START_BACKOFF;
                    restart_backoff.next_delay()
                }
                Err(error) => {
                    metrics::counter!(metric::RELAY_FAILURES).increment(1);
                    let text = ErrorChain(&error).to_string();
                    // Once per cause: it may stay for as long as the server runs.
                    if reported.as_ref() != Some(&text) {
                        tracing::warn!(
                            error = text,
                            "no relay of notifications; transactions send them themselves, one after the other"
                        );
                        reported = Some(text);
                    }
                    start_backoff.next_delay()
                }
            };
            select! {
                () = stop.cancelled() => return,
                () = sleep(delay) => {}
            }
        }
    }

    async fn claim(&self) -> Result<Claim, PgError> {
        let node = self.node;
        let claim = |connection| async move { relay::claim(&connection, node, CLAIM).await };
        self.database.within(STATEMENT_TIMEOUT, claim).await
    }

    async fn relay(&self, stop: &CancellationToken, has_started: &mut bool) -> Result<Ended, RelayError> {
        match self.claim().await? {
            Claim::Granted => {}
            Claim::Taken => return Ok(Ended::OtherNode),
            Claim::Impossible(obstacle) => return Err(RelayError::Impossible(obstacle)),
        }
        let result = self.start(stop, has_started).await;
        metrics::gauge!(metric::RELAY_ACTIVE).set(0.0);
        if !matches!(result, Ok(Ended::OtherNode)) {
            let node = self.node;
            let release = |connection| async move { relay::release(&connection, node).await };
            if let Err(error) = self.database.within(STATEMENT_TIMEOUT, release).await {
                tracing::debug!(error = %ErrorChain(&error), "releasing the relay failed; its lease expires by itself");
            }
        }
        result
    }

    /// Starts the stream, keeping the claim meanwhile, and relays.
    async fn start(&self, stop: &CancellationToken, has_started: &mut bool) -> Result<Ended, RelayError> {
        let connector = self.database.direct_connector();
        let slot = format!("rollcall_relay_{}", uuid::Uuid::new_v4().simple());
        let mut stream = {
            let create = ReplicationStream::create(connector, &slot, SlotKind::Temporary, CONTENT).boxed();
            tokio::pin!(create);
            loop {
                select! {
                    stream = &mut create => break stream?,
                    () = stop.cancelled() => return Ok(Ended::Stopped),
                    () = sleep(CLAIM_RENEWAL_INTERVAL) => if self.claim().await? != Claim::Granted {
                        return Ok(Ended::OtherNode);
                    },
                }
            }
        };
        let client = connector.client_with_limits("relay", LIMITS).await.map_err(PgError::from)?;
        let (key, log_token) = within(STATEMENT_TIMEOUT, relay::notification_key(&client)).await?;
        let reader = MessageReader::new(NotificationKey::new(key), log_token);
        if !within(STATEMENT_TIMEOUT, relay::start(&client, self.node, LEASE)).await? {
            return Ok(Ended::OtherNode);
        }
        tracing::info!("this node relays notifications");
        *has_started = true;
        metrics::gauge!(metric::RELAY_ACTIVE).set(1.0);
        let ended = self.forward(&client, &reader, &mut stream, stop).await;
        stream.close().await;
        ended
    }

    /// Sends what the stream contains. While a batch is sent, the next one is read.
    async fn forward(
        &self,
        client: &Client,
        reader: &MessageReader,
        stream: &mut ReplicationStream,
        stop: &CancellationToken,
    ) -> Result<Ended, RelayError> {
        let mut batch = Batch::default();
        let mut sending: Option<BoxFuture<'_, Result<Batch, RelayError>>> = None;
        let mut renewing: Option<BoxFuture<'_, Result<bool, PgError>>> = None;
        let mut read_until = None;
        let mut renew_at = Instant::now();
        loop {
            // One connection, so a renewal reports what was sent before.
            let is_idle = sending.is_none() && renewing.is_none();
            if is_idle && Instant::now() >= renew_at {
                renew_at = Instant::now() + RENEWAL_INTERVAL;
                let renewal = relay::renew(client, self.node, LEASE, read_until);
                renewing = Some(within(STATEMENT_TIMEOUT, renewal).boxed());
            } else if is_idle && !batch.is_empty() {
                sending = Some(send(client, std::mem::take(&mut batch)).boxed());
            }
            if sending.is_none() && batch.is_empty() {
                // Nothing waits to be sent before these.
                read_until = batch.read_until.take().or(read_until);
                if let Some(position) = batch.position.take() {
                    stream.acknowledge(position);
                }
            }
            select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                sent = async { sending.as_mut().expect("a batch is being sent").await }, if sending.is_some() => {
                    sending = None;
                    let sent = sent?;
                    read_until = sent.read_until.or(read_until);
                    if let Some(position) = sent.position {
                        stream.acknowledge(position);
                    }
                }
                is_relay = async { renewing.as_mut().expect("a renewal is running").await }, if renewing.is_some() => {
                    renewing = None;
                    if !is_relay? {
                        return Ok(Ended::OtherNode);
                    }
                }
                event = stream.next_event(), if !batch.is_full() => match event? {
                    StreamEvent::Message { message, transaction } => {
                        batch.add(reader, &message, transaction.map(|transaction| transaction.xid));
                    }
                    StreamEvent::Commit { end } | StreamEvent::Idle { end } => batch.position = Some(end),
                    StreamEvent::Begin | StreamEvent::Change(_) => {}
                },
                () = sleep_until(renew_at), if sending.is_none() && renewing.is_none() => {}
            }
        }
    }
}

/// Sends a batch and returns it.
async fn send(client: &Client, batch: Batch) -> Result<Batch, RelayError> {
    within(STATEMENT_TIMEOUT, relay::send(client, &batch.channels, &batch.payloads, &batch.xids)).await?;
    metrics::counter!(metric::RELAYED_NOTIFICATIONS).increment(batch.payloads.len() as u64);
    Ok(batch)
}
