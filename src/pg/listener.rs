//! The one LISTEN connection of a node.
//!
//! It owns a connection outside of the pool, reconnects with capped, jittered back-off, and after every reconnect
//! tells its audience that notifications were lost. What arrives is handed over at once and never waits: the
//! audience merges, so a burst cannot pile up here.

use std::{future::poll_fn, time::Duration};

use rand::Rng;
use tokio::{
    pin, select,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::{Connector, PgError};

/// Ids of users whose faces changed.
pub const PRESENCE: &str = "rollcall_presence";
/// Pairs of user and version: what the user does on a device has changed.
pub const CONTEXT: &str = "rollcall_context";
/// Bundles of the context engine: some became dirty, or a user's became ready.
pub const BUNDLES: &str = "rollcall_bundles";
/// Pairs of conversation and user: somebody types, or has stopped.
pub const TYPING: &str = "rollcall_typing";
/// Somebody's sight became void.
pub const VISIBILITY: &str = "rollcall_visibility";

/// Ids of entries in `rollcall.outbox`, which sockets are to be told.
pub const BROADCAST: &str = "rollcall_broadcast";
/// Where on the bus a node has said something, or a word of its own.
pub const BUS: &str = "rollcall_bus";
/// A node, and which of its rows in `rollcall.presence` to read again.
pub const CHANNEL_PRESENCE: &str = "rollcall_channels";

/// Ids of new rows in `realtime.messages`.
pub const MESSAGES: &str = "rollcall_messages";
/// Answers about private channels became void.
pub const AUTHORIZATION: &str = "rollcall_rights";

/// LISTEN takes an identifier, not a parameter; these are constants.
const LISTEN: &str = "listen rollcall_broadcast; listen rollcall_bundles; listen rollcall_bus; listen rollcall_channels; \
    listen rollcall_context; listen rollcall_messages; listen rollcall_presence; listen rollcall_rights; \
    listen rollcall_typing; listen rollcall_visibility";

/// How often a silent connection is asked whether it is alive, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Between attempts to connect: doubling from the first to the last, each with jitter of half its length.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Who hears notifications, and leaves alone those that are for others. Must not block.
pub trait NotificationHandler: Send + Sync + 'static {
    /// A notification, in commit order.
    fn on_notification(&self, channel: &str, payload: &str);
    /// From now on nothing is missed; what was before may have been.
    fn on_connected(&self);
    /// From now on everything is missed, until `listening`.
    fn on_disconnected(&self);
}

/// Both hear everything.
impl<A: NotificationHandler, B: NotificationHandler> NotificationHandler for (A, B) {
    fn on_notification(&self, channel: &str, payload: &str) {
        self.0.on_notification(channel, payload);
        self.1.on_notification(channel, payload);
    }

    fn on_connected(&self) {
        self.0.on_connected();
        self.1.on_connected();
    }

    fn on_disconnected(&self) {
        self.0.on_disconnected();
        self.1.on_disconnected();
    }
}

/// Listens until stopped. Never ends because of the database.
pub async fn run(connector: Connector, audience: impl NotificationHandler, stop: CancellationToken) {
    let mut retry = FIRST_RETRY_DELAY;
    loop {
        let started = Instant::now();
        let ended = select! {
            () = stop.cancelled() => return,
            ended = run_connection(&connector, &audience) => ended,
        };
        audience.on_disconnected();
        if started.elapsed() > MAX_RETRY_DELAY {
            retry = FIRST_RETRY_DELAY;
        }
        tracing::warn!(error = %Cause(&ended), retry_ms = retry.as_millis(), "lost the LISTEN connection");
        let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
        select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
        retry = (retry * 2).min(MAX_RETRY_DELAY);
    }
}

/// One connection's life; returns why it ended.
async fn run_connection(connector: &Connector, audience: &impl NotificationHandler) -> PgError {
    let (client, mut connection) = match connector.connect("listener").await {
        Ok(both) => both,
        Err(error) => return error.into(),
    };
    // The client's requests progress only while the connection is polled, so both go on in one loop.
    let requests = async {
        client.batch_execute(LISTEN).await?;
        tracing::info!("listening for notifications");
        audience.on_connected();
        loop {
            sleep(PING_INTERVAL).await;
            match timeout(PING_TIMEOUT, client.batch_execute("")).await {
                Ok(answer) => answer?,
                Err(_) => {
                    return Err::<std::convert::Infallible, PgError>(PgError::Unavailable(
                        "it stopped answering".into(),
                    ));
                }
            }
        }
    };
    pin!(requests);
    loop {
        select! {
            message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    audience.on_notification(notification.channel(), notification.payload());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.into(),
                None => return PgError::Unavailable("the server closed the connection".into()),
            },
            ended = &mut requests => match ended {
                Ok(never) => match never {},
                Err(error) => return error,
            },
        }
    }
}

/// An error with its causes on one line.
struct Cause<'a>(&'a PgError);

impl std::fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
