//! The connection to NATS and its state.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;

use super::{
    NatsError, NatsSettings,
    inbound::InboundQueue,
    settings::{NatsServers, UrlCredentials},
    subjects::Subjects,
    tls::tls_config,
};
use crate::{backoff::Backoff, model::NodeId, telemetry::metric};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that stops answering is left after two unanswered pings.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Delays between attempts double from the first to the maximum, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
/// Maximum commands that wait in the client. A batch is flushed before the next one, so they hold about one batch.
const CLIENT_CAPACITY: usize = 256;
/// Maximum messages of one subject that wait in the client. The receiver takes them at once.
const SUBSCRIPTION_CAPACITY: usize = 8_192;

/// State of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LinkState {
    pub(super) is_connected: bool,
    /// Connections so far, at least.
    pub(super) connections: u64,
}

/// Handle to the connection. Cheap to clone. The connection is closed with the last handle.
#[derive(Clone)]
pub(super) struct NatsConnection {
    pub(super) client: Client,
    state: Arc<watch::Sender<LinkState>>,
}

/// Whether NATS can be reached. Cheap to clone.
#[derive(Clone)]
pub struct NatsStatus(watch::Receiver<LinkState>);

impl NatsStatus {
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.borrow().is_connected
    }
}

impl NatsConnection {
    /// Starts to connect, and continues until it succeeds.
    pub(super) async fn open(
        node: NodeId,
        settings: &NatsSettings,
        subjects: &Subjects,
        inbound: Arc<InboundQueue>,
    ) -> Result<Self, NatsError> {
        let servers = settings.servers.clone().unwrap_or_default();
        let (state, _) = watch::channel(LinkState::default());
        let state = Arc::new(state);
        let (for_events, has_failed) = (Arc::clone(&state), AtomicBool::new(false));
        let options = authenticated(settings, &servers)?
            .name(format!("rollcall {}", node.0))
            .tls_client_config(tls_config(settings)?)
            .no_echo()
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(|attempts| {
                BACKOFF.delay_for(u32::try_from(attempts).unwrap_or(u32::MAX))
            })
            .client_capacity(CLIENT_CAPACITY)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .custom_inbox_prefix(subjects.inbox_prefix())
            .event_callback(move |event| {
                on_event(&event, &for_events, &has_failed, &inbound);
                std::future::ready(())
            });
        let client = options.connect(servers.addresses).await.map_err(NatsError::Client)?;
        Ok(Self { client, state })
    }

    pub(super) fn status(&self) -> NatsStatus {
        NatsStatus(self.state.subscribe())
    }

    pub(super) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Corrects the state, because the client may drop events when there are many.
    pub(super) fn refresh(&self) {
        let is_connected = self.client.connection_state() == async_nats::connection::State::Connected;
        let connections = self.client.statistics().connects.load(Ordering::Relaxed);
        self.state.send_if_modified(|state| {
            let next = LinkState { is_connected, connections: state.connections.max(connections) };
            let is_changed = *state != next;
            *state = next;
            is_changed
        });
    }
}

/// `has_failed`: an attempt to connect has failed since the last connection. Only the first one is logged.
fn on_event(
    event: &Event,
    state: &watch::Sender<LinkState>,
    has_failed: &AtomicBool,
    inbound: &InboundQueue,
) {
    match event {
        Event::Connected => {
            has_failed.store(false, Ordering::Relaxed);
            tracing::info!("connected to NATS");
            state.send_modify(|state| {
                *state = LinkState { is_connected: true, connections: state.connections + 1 };
            });
        }
        Event::Disconnected | Event::Closed => {
            if state.send_if_modified(|state| std::mem::take(&mut state.is_connected)) {
                tracing::warn!("connection to NATS lost");
                metrics::counter!(metric::BUS_INTERRUPTIONS).increment(1);
            }
        }
        Event::SlowConsumer(_) => inbound.push_lost(),
        Event::ClientError(error) => {
            if !has_failed.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "cannot connect to NATS");
            }
        }
        Event::ServerError(error) => tracing::warn!(%error, "NATS reported an error"),
        Event::LameDuckMode => tracing::info!("the NATS server shuts down"),
        Event::Draining => {}
    }
}

fn authenticated(settings: &NatsSettings, servers: &NatsServers) -> Result<ConnectOptions, NatsError> {
    let mut options = ConnectOptions::new();
    if let Some(file) = &settings.credentials {
        let text = read("NATS_CREDS", file)?;
        options = options
            .credentials(&text)
            .map_err(|source| NatsError::Credentials { file: file.clone(), source })?;
    }
    if let Some(file) = &settings.nkey {
        options = options.nkey(read("NATS_NKEY", file)?.trim().to_owned());
    }
    let (url_user, url_password, url_token) = match &servers.credentials {
        Some(UrlCredentials::Password(user, password)) => (Some(user), Some(password), None),
        Some(UrlCredentials::Token(token)) => (None, None, Some(token)),
        None => (None, None, None),
    };
    if let Some(user) = settings.user.as_ref().or(url_user) {
        let password = settings.password.as_ref().or(url_password);
        let password = password.map(|password| password.expose().to_owned()).unwrap_or_default();
        options = options.user_and_password(user.clone(), password);
    }
    if let Some(token) = settings.token.as_ref().or(url_token) {
        options = options.token(token.expose().to_owned());
    }
    Ok(options)
}

fn read(variable: &'static str, file: &Path) -> Result<String, NatsError> {
    std::fs::read_to_string(file).map_err(|source| NatsError::File {
        variable,
        file: file.to_owned(),
        source,
    })
}
