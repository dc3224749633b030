//! A node of a bus without a server around it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use rollcall::{
    channels::bus::{
        Audience, Bus, BusMessage, BusSubscriber, Peers, TopicSubscription,
        nats::{NatsBus, NatsSettings, NatsStatus, NatsTasks},
        postgres::PostgresBus,
    },
    model::{NodeId, Topic},
    pg::{Database, listener, queries},
    settings::defaults,
};
use testkit::{
    harness::{TestDatabase, WAIT_TIMEOUT},
    nats::NatsServer,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(10);

/// What a node received, in order.
#[derive(Clone, Default)]
pub(crate) struct Received {
    pub(crate) messages: Arc<Mutex<Vec<(NodeId, BusMessage)>>>,
    /// Calls of `on_lost` and `on_connected`.
    pub(crate) signals: Arc<Mutex<Vec<Signal>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Lost,
    Connected(bool),
}

impl BusSubscriber for Received {
    fn on_message(&self, from: NodeId, message: BusMessage) -> BoxFuture<'_, ()> {
        self.messages.lock().push((from, message));
        std::future::ready(()).boxed()
    }

    fn on_lost(&self) {
        self.signals.lock().push(Signal::Lost);
    }

    fn on_connected(&self, is_connected: bool) {
        self.signals.lock().push(Signal::Connected(is_connected));
    }
}

/// Which bus a test uses.
pub(crate) enum Network {
    Postgres,
    Nats(NatsServer),
}

impl Network {
    pub(crate) async fn nats() -> Self {
        // For the largest message of these tests.
        Self::Nats(NatsServer::start_with("max_payload: 8MB\n").await)
    }
}

pub(crate) fn lobby() -> Topic {
    Topic::private("lobby")
}

pub(crate) struct BusNode {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) received: Received,
    pub(crate) node: NodeId,
    database: Database,
    tasks: Vec<JoinHandle<()>>,
    nats: Option<NatsStatus>,
    subscription: Option<TopicSubscription>,
}

impl BusNode {
    /// A node with a member of the lobby.
    pub(crate) async fn open(db: &TestDatabase, network: &Network) -> Self {
        let mut node = match network {
            Network::Postgres => Self::open_postgres(db).await,
            Network::Nats(server) => Self::open_nats(db, &server.url(), |_| {}).await,
        };
        node.join(&lobby()).await;
        node
    }

    pub(crate) async fn open_postgres(db: &TestDatabase) -> Self {
        let database = Database::new(&db.url, None, 4).expect("a valid URL");
        let (node, received, stop) = (NodeId::random(), Received::default(), CancellationToken::new());
        let connection = database.server_connection().await.expect("a connection");
        queries::node::renew_lease(&connection, node, LEASE).await.expect("a lease");
        let (bus, handler, (writer, reader)) =
            PostgresBus::new(node, &database, Peers::new(LEASE), received.clone());
        let mut ready = reader.ready();
        let tasks = vec![
            tokio::spawn(writer.run(stop.clone())),
            tokio::spawn(reader.run(stop.clone())),
            tokio::spawn(listener::run(database.direct_connector().clone(), handler, stop)),
        ];
        ready.wait_for(|ready| *ready).await.expect("it runs");
        Self { bus: Arc::new(bus), received, node, database, tasks, nats: None, subscription: None }
    }

    pub(crate) async fn open_nats(
        db: &TestDatabase,
        url: &str,
        change: impl FnOnce(&mut NatsSettings),
    ) -> Self {
        let (node, mut ready) = Self::start_nats(db, url, change).await;
        ready.wait_for(|ready| *ready).await.expect("it runs");
        node
    }

    /// Does not wait for NATS.
    pub(crate) async fn start_nats(
        db: &TestDatabase,
        url: &str,
        change: impl FnOnce(&mut NatsSettings),
    ) -> (Self, watch::Receiver<bool>) {
        let database = Database::new(&db.url, None, 4).expect("a valid URL");
        let (node, received, stop) = (NodeId::random(), Received::default(), CancellationToken::new());
        let connection = database.server_connection().await.expect("a connection");
        let identity = queries::bus::identity(&connection).await.expect("a key");
        let mut settings = NatsSettings {
            servers: Some(url.parse().expect("a list of URLs")),
            ..defaults::<NatsSettings>()
        };
        change(&mut settings);
        let (bus, status, NatsTasks { writer, receiver, deliverer }) =
            NatsBus::new(node, &settings, None, &identity, received.clone()).await.expect("usable settings");
        let ready = receiver.ready();
        let tasks = vec![
            tokio::spawn(writer.run(stop.clone())),
            tokio::spawn(receiver.run(stop.clone())),
            tokio::spawn(deliverer.run(stop)),
        ];
        let nats = Some(status);
        (Self { bus: Arc::new(bus), received, node, database, tasks, nats, subscription: None }, ready)
    }

    pub(crate) async fn join(&mut self, topic: &Topic) {
        self.subscription = self.bus.subscribe(topic);
        if let Some(subscription) = &self.subscription {
            subscription.confirmed().await;
        }
    }

    /// The member of the topic leaves.
    pub(crate) fn leave(&mut self) {
        self.subscription = None;
    }

    pub(crate) fn publish(&self, body: impl Into<Bytes>) {
        self.publish_to(&lobby(), body);
    }

    pub(crate) fn publish_to(&self, topic: &Topic, body: impl Into<Bytes>) {
        let (topic, body) = (topic.clone(), body.into());
        self.bus.publish(BusMessage { topic, audience: Audience::Members, body });
    }

    pub(crate) fn received_texts(&self) -> Vec<String> {
        let text = |(_, message): &(NodeId, BusMessage)| {
            String::from_utf8_lossy(&message.body[..message.body.len().min(100)]).into_owned()
        };
        self.received.messages.lock().iter().map(text).collect()
    }

    pub(crate) async fn wait_for_messages(&self, count: usize) -> Vec<String> {
        let started = Instant::now();
        while self.received.messages.lock().len() < count {
            assert!(started.elapsed() < WAIT_TIMEOUT, "received {:?}", self.received_texts());
            sleep(Duration::from_millis(1)).await;
        }
        self.received_texts()
    }

    pub(crate) fn signals(&self) -> Vec<Signal> {
        self.received.signals.lock().clone()
    }

    /// Whether messages of other nodes arrive.
    pub(crate) fn is_subscribed(&self) -> bool {
        let signals = self.signals();
        self.is_connected()
            && signals.iter().rfind(|signal| **signal != Signal::Lost) == Some(&Signal::Connected(true))
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.nats.as_ref().is_some_and(NatsStatus::is_connected)
    }
}

impl Drop for BusNode {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.database.close();
    }
}
