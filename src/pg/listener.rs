//! The LISTEN connection of a node.
//!
//! It reconnects with jittered exponential backoff and reports every gap to its handlers. Handlers receive each
//! notification synchronously and must not block, so no notification queues here.

use std::{future::poll_fn, time::Duration};

use parking_lot::Mutex;
use tokio::{
    pin, select,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::{
    Connector, PgError,
    notification::{Notification, NotificationError, NotificationReader, channel},
    session::StatementLimits,
};
use crate::backoff::Backoff;
use crate::lifecycle::ErrorChain;
use crate::telemetry::metric;

/// Interval between liveness checks of the connection.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const LIMITS: StatementLimits =
    StatementLimits { statement_timeout: Duration::from_secs(5), lock_timeout: Duration::ZERO };

/// Delays between connection attempts double from the first to the maximum, with 50 % jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// Receives every notification and ignores those that do not concern it. Methods must not block.
pub trait NotificationHandler: Send + Sync + 'static {
    /// Called for each notification, in commit order.
    fn on_notification(&self, notification: &Notification);
    /// Called when LISTEN succeeded: notifications sent earlier may be lost, later ones are not.
    fn on_connected(&self);
    /// Called when the connection is lost: notifications are lost until `on_connected`.
    fn on_disconnected(&self);
    /// Called when notifications since this time may be missing although the connection was not lost.
    fn on_missed(&self, since: Instant);
}

/// Forwards each call to the handler, if there is one.
impl<A: NotificationHandler> NotificationHandler for Option<A> {
    fn on_notification(&self, notification: &Notification) {
        if let Some(handler) = self {
            handler.on_notification(notification);
        }
    }

    fn on_connected(&self) {
        if let Some(handler) = self {
            handler.on_connected();
        }
    }

    fn on_disconnected(&self) {
        if let Some(handler) = self {
            handler.on_disconnected();
        }
    }

    fn on_missed(&self, since: Instant) {
        if let Some(handler) = self {
            handler.on_missed(since);
        }
    }
}

/// Forwards each call to both handlers.
impl<A: NotificationHandler, B: NotificationHandler> NotificationHandler for (A, B) {
    fn on_notification(&self, notification: &Notification) {
        self.0.on_notification(notification);
        self.1.on_notification(notification);
    }

    fn on_connected(&self) {
        self.0.on_connected();
        self.1.on_connected();
    }

    fn on_disconnected(&self) {
        self.0.on_disconnected();
        self.1.on_disconnected();
    }

    fn on_missed(&self, since: Instant) {
        self.0.on_missed(since);
        self.1.on_missed(since);
    }
}

/// LISTEN takes identifiers and no parameters.
fn listen_sql() -> String {
    channel::ALL.map(|channel| format!("listen {channel}")).join("; ")
}

/// Counts a payload that was not accepted, and logs the first of a connection.
fn record_rejected(error: NotificationError, channel: &str, rejected: &mut u64) {
    metrics::counter!(metric::NOTIFICATIONS_REJECTED, "cause" => error.as_str()).increment(1);
    if *rejected == 0 {
        tracing::warn!(%error, channel, "ignored a notification; later ones of this connection are only counted");
    }
    *rejected += 1;
}

/// Runs the LISTEN connection until `stop` is cancelled; reconnects after every failure.
pub async fn run(connector: Connector, handler: impl NotificationHandler, stop: CancellationToken) {
    let mut backoff = BACKOFF;
    loop {
        let started = Instant::now();
        let error = select! {
            () = stop.cancelled() => return,
            error = run_connection(&connector, &handler) => error,
        };
        handler.on_disconnected();
        if started.elapsed() > backoff.max() {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        tracing::warn!(error = %ErrorChain(&error), retry_ms = delay.as_millis(), "LISTEN connection lost, reconnecting");
        select! {
            () = stop.cancelled() => return,
            () = sleep(delay) => {}
        }
    }
}

/// Runs one connection and returns the error that ended it.
async fn run_connection(connector: &Connector, handler: &impl NotificationHandler) -> PgError {
    let (client, mut connection) = match connector.connect("listener").await {
        Ok(pair) => pair,
        Err(error) => return error.into(),
    };
    // Requests of the client progress only while the connection is polled, so one loop drives both.
    let reader = Mutex::new(None);
    let requests = async {
        client.batch_execute(&LIMITS.session_sql()).await?;
        client.batch_execute(&listen_sql()).await?;
        let row = client.query_one(include_str!("../../sql/node/notification_key.sql"), &[]).await?;
        // Notifications before this point are covered by `on_connected`.
        *reader.lock() = Some(NotificationReader::new(row.try_get("key")?));
        tracing::info!("LISTEN connection established");
        handler.on_connected();
        loop {
            sleep(PING_INTERVAL).await;
            match timeout(PING_TIMEOUT, client.batch_execute("")).await {
                Ok(result) => result?,
                Err(_) => {
                    return Err::<std::convert::Infallible, PgError>(PgError::Unavailable(
                        "no response in time".into(),
                    ));
                }
            }
        }
    };
    pin!(requests);
    let mut rejected = 0;
    loop {
        select! {
            message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    let (channel, payload) = (notification.channel(), notification.payload());
                    let opened = reader.lock().as_mut().map(|reader| reader.open(channel, payload));
                    match opened {
                        Some(Ok(Notification::Missed { within })) => {
                            tracing::info!(within_ms = within.as_millis(), "notifications may be missing; reading the tables");
                            let now = Instant::now();
                            handler.on_missed(now.checked_sub(within).unwrap_or(now));
                        }
                        Some(Ok(notification)) => handler.on_notification(&notification),
                        Some(Err(error)) => record_rejected(error, channel, &mut rejected),
                        None => {}
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.into(),
                None => return PgError::Unavailable("the server closed the connection".into()),
            },
            result = &mut requests => match result {
                Ok(never) => match never {},
                Err(error) => return error,
            },
        }
    }
}
