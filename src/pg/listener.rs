//! The LISTEN connection of a node.
//!
//! It reconnects with jittered exponential backoff and reports every gap to its handlers. Handlers receive each
//! notification synchronously and must not block, so no notification queues here.

use std::{future::poll_fn, time::Duration};

use tokio::{
    pin, select,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::{Connector, PgError, session::StatementLimits};
use crate::backoff::Backoff;
use crate::lifecycle::ErrorChain;

/// Payload: IDs of users whose `user_presence` rows changed.
pub const PRESENCE: &str = "rollcall_presence";
/// Payload: pairs of user ID and context version.
pub const CONTEXT: &str = "rollcall_context";
/// Payload: `ready|…` with the compiled bundles of a user; anything else means that bundles became stale.
pub const BUNDLES: &str = "rollcall_bundles";
/// Payload: pairs of conversation ID and user ID whose typing state changed.
pub const TYPING: &str = "rollcall_typing";
/// Payload: users whose visible presences must be computed again.
pub const VISIBILITY: &str = "rollcall_visibility";

/// Payload: IDs of new rows in `rollcall_internal.outbox`.
pub const BROADCAST: &str = "rollcall_broadcast";
/// Payload: position of new bus entries, or a control message of a node.
pub const BUS: &str = "rollcall_bus";
/// Payload: a node ID and which of its rows in `rollcall.presence` changed.
pub const CHANNEL_PRESENCE: &str = "rollcall_channels";

/// Payload: IDs of new rows in `realtime.messages`.
pub const MESSAGES: &str = "rollcall_messages";
/// Payload: which cached authorizations of private channels are no longer valid.
pub const AUTHORIZATION: &str = "rollcall_rights";

/// A constant, because LISTEN takes identifiers and no parameters.
const LISTEN: &str = "listen rollcall_broadcast; listen rollcall_bundles; listen rollcall_bus; listen rollcall_channels; \
    listen rollcall_context; listen rollcall_messages; listen rollcall_presence; listen rollcall_rights; \
    listen rollcall_typing; listen rollcall_visibility";

/// Interval between liveness checks of the connection.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const LIMITS: StatementLimits =
    StatementLimits { statement_timeout: Duration::from_secs(5), lock_timeout: Duration::ZERO };

/// Delays between connection attempts double from the first to the maximum, with 50 % jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// Receives every notification and ignores those of other channels. Methods must not block.
pub trait NotificationHandler: Send + Sync + 'static {
    /// Called for each notification, in commit order.
    fn on_notification(&self, channel: &str, payload: &str);
    /// Called when LISTEN succeeded: notifications sent earlier may be lost, later ones are not.
    fn on_connected(&self);
    /// Called when the connection is lost: notifications are lost until `on_connected`.
    fn on_disconnected(&self);
}

/// Forwards each call to both handlers.
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
    let requests = async {
        client.batch_execute(&LIMITS.session_sql()).await?;
        client.batch_execute(LISTEN).await?;
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
    loop {
        select! {
            message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    handler.on_notification(notification.channel(), notification.payload());
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
