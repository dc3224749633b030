//! Task that subscribes to the topics with members and receives their messages.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Message, RequestErrorKind, Subscriber};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, SelectAll},
};
use tokio::{
    select,
    sync::{oneshot, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::interest::{Interest, TopicKey},
    NatsError,
    connection::{LinkState, NatsConnection},
    inbound::{Inbound, InboundQueue},
    subjects::{Destination, Subjects},
};
use crate::telemetry::metric;

/// Interval between checks of the connection and of topics without members.
const TICK: Duration = Duration::from_secs(1);
/// Timeout of handing a subscription to the connection.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout of NATS's answer that subscriptions are in effect.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay after a probe that failed.
const PROBE_DELAY: Duration = Duration::from_millis(200);
/// Subscriptions that one probe confirms.
const MAX_SUBSCRIBED: usize = 1_024;
/// Messages taken before other work is looked at.
const MAX_TAKEN: usize = 256;

/// Messages of one destination. Ends when its sender in [`Streams::stops`] is dropped.
type DestinationStream = BoxStream<'static, (Destination, Message)>;

/// Task that subscribes to the topics with members and receives their messages.
pub struct NatsReceiver {
    connection: NatsConnection,
    subjects: Arc<Subjects>,
    interest: Arc<Interest>,
    inbound: Arc<InboundQueue>,
    ready: watch::Sender<bool>,
}

/// Streams of the subscribed destinations.
#[derive(Default)]
struct Streams {
    all: SelectAll<DestinationStream>,
    stops: HashMap<TopicKey, oneshot::Sender<()>>,
    /// Number of the last topic that was subscribed, and of the last one that NATS confirmed.
    subscribed: u64,
    confirmed: u64,
    /// The connection whose subscriptions NATS confirmed.
    connection: u64,
}

/// What a probe confirms, if NATS answered.
struct Probed {
    is_answered: bool,
    through: u64,
    connection: u64,
}

impl NatsReceiver {
    pub(super) const fn new(
        connection: NatsConnection,
        subjects: Arc<Subjects>,
        interest: Arc<Interest>,
        inbound: Arc<InboundQueue>,
        ready: watch::Sender<bool>,
    ) -> Self {
        Self { connection, subjects, interest, inbound, ready }
    }

    /// Becomes true once messages of other nodes arrive, and stays true.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Receives until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        select! {
            () = stop.cancelled() => {}
            result = self.receive() => {
                if let Err(error) = result {
                    tracing::error!(error = %crate::lifecycle::ErrorChain(&error), "receiving from NATS failed");
                }
            }
        }
    }

    /// Ends only when the client has stopped.
    async fn receive(&self) -> Result<(), NatsError> {
        let mut link = self.connection.watch();
        self.inbound.push(Inbound::Connected(false));
        let mut streams = Streams::default();
        // Sent once there is a connection.
        let subject = self.subjects.of(Destination::AllNodes);
        let subscriber = self.connection.client.subscribe(subject).await.map_err(NatsError::Stopped)?;
        streams.all.push(subscriber.map(|message| (Destination::AllNodes, message)).boxed());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe: Option<BoxFuture<'_, Probed>> = None;
        let mut was_connected = false;
        loop {
            let state = *link.borrow_and_update();
            if was_connected != state.is_connected {
                was_connected = state.is_connected;
                if !state.is_connected {
                    self.interest.set_connected(false);
                    self.inbound.push(Inbound::Connected(false));
                }
            }
            if state.is_connected && probe.is_none() {
                self.subscribe_new(&mut streams).await;
                if streams.subscribed > streams.confirmed || streams.connection != state.connections {
                    probe = Some(self.probe(streams.subscribed, state).boxed());
                }
            }
            let is_probing = probe.is_some();
            let probed = async {
                match &mut probe {
                    Some(probe) => probe.await,
                    None => std::future::pending().await,
                }
            };
            select! {
                Some((destination, message)) = streams.all.next() => self.take(&mut streams, destination, message),
                probed = probed => {
                    probe = None;
                    self.on_probed(&probed, &mut streams, *link.borrow());
                }
                () = self.interest.wait_for_new(), if state.is_connected && !is_probing => {}
                _ = link.changed() => {}
                _ = ticks.tick() => {
                    self.connection.refresh();
                    self.unsubscribe_idle(&mut streams);
                }
            }
        }
    }

    /// Queues a message and others that have arrived.
    fn take(&self, streams: &mut Streams, destination: Destination, message: Message) {
        self.inbound.push(Inbound::Message(destination, message.payload));
        for _ in 1..MAX_TAKEN {
            let Some(Some((destination, message))) = streams.all.next().now_or_never() else { return };
            self.inbound.push(Inbound::Message(destination, message.payload));
        }
    }

    async fn subscribe_new(&self, streams: &mut Streams) {
        for _ in 0..MAX_SUBSCRIBED {
            let Some((key, number)) = self.interest.take_new() else { break };
            let destination = Destination::Topic(key);
            let subscribe = self.connection.client.subscribe(self.subjects.of(destination));
            let Ok(Ok(subscriber)) = timeout(SUBSCRIBE_TIMEOUT, subscribe).await else {
                self.interest.return_new(key, number);
                break;
            };
            let (stop, stopped) = oneshot::channel();
            let messages = Subscriber::map(subscriber, move |message| (destination, message));
            streams.all.push(messages.take_until(stopped).boxed());
            streams.stops.insert(key, stop);
            streams.subscribed = number;
        }
        metrics::gauge!(metric::BUS_SUBSCRIPTIONS).set(streams.stops.len() as f64);
    }

    fn unsubscribe_idle(&self, streams: &mut Streams) {
        for key in self.interest.take_idle() {
            // Ends the stream, which unsubscribes.
            streams.stops.remove(&key);
            self.inbound.push(Inbound::Unsubscribed(Destination::Topic(key)));
        }
        metrics::gauge!(metric::BUS_SUBSCRIPTIONS).set(streams.stops.len() as f64);
    }

    /// Waits until NATS has handled the subscriptions before. Nobody receives the request, which NATS answers itself.
    async fn probe(&self, through: u64, state: LinkState) -> Probed {
        let started = Instant::now();
        let request = self.connection.client.request(self.subjects.probe(), bytes::Bytes::new());
        let answer = timeout(PROBE_TIMEOUT, request).await;
        let is_answered = match &answer {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
            Err(_) => false,
        };
        if !is_answered {
            tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "NATS did not confirm subscriptions");
            sleep(PROBE_DELAY).await;
        }
        Probed { is_answered, through, connection: state.connections }
    }

    fn on_probed(&self, probed: &Probed, streams: &mut Streams, state: LinkState) {
        if !probed.is_answered || !state.is_connected || state.connections != probed.connection {
            return;
        }
        streams.confirmed = probed.through;
        self.interest.confirm(probed.through);
        if streams.connection != probed.connection {
            streams.connection = probed.connection;
            self.interest.set_connected(true);
            self.inbound.push(Inbound::Connected(true));
            self.ready.send_replace(true);
        }
    }
}
