//! The bus over NATS: a subject per topic, so that a node receives the messages of topics that have members on it.
//!
//! What all nodes need, the messages of topics with a history in memory, has a subject of its own. Subjects begin with the
//! prefix of the settings and a hash of the installation's key, and every message is authenticated with this key:
//! installations that share a NATS neither receive nor can forge each other's messages.
//!
//! Messages queued while a batch is being written form the next batch; those of one topic share a NATS message. NATS
//! delivers at most once, so messages are numbered per sending node and subject: a gap is announced to the
//! [`BusSubscriber`](super::BusSubscriber), and a repeated message is ignored. While the connection is lost, messages wait
//! in the queue of their node. Those of other nodes that were sent meanwhile are lost, which is announced, too.

mod connection;
mod deliverer;
mod envelope;
mod error;
mod inbound;
mod positions;
mod receiver;
mod settings;
mod subjects;
mod tls;
mod writer;

use std::sync::Arc;

use tokio::sync::watch;

use self::{connection::NatsConnection, envelope::Seal, inbound::InboundQueue, subjects::Subjects};
pub use self::{
    connection::NatsStatus,
    deliverer::NatsDeliverer,
    error::NatsError,
    receiver::NatsReceiver,
    settings::{NatsServers, NatsSettings},
    writer::NatsWriter,
};
use super::{Bus, BusMessage, BusSubscriber, TopicSubscription, interest::Interest, queue::Queue};
use crate::{
    model::{NodeId, Topic},
    pg::queries::bus::BusIdentity,
};

/// Handle to the bus. Cheap to clone.
#[derive(Clone)]
pub struct NatsBus {
    queue: Arc<Queue>,
    interest: Arc<Interest>,
}

/// The tasks of the bus.
pub struct NatsTasks<H> {
    pub writer: NatsWriter,
    pub receiver: NatsReceiver,
    pub deliverer: NatsDeliverer<H>,
}

impl NatsBus {
    /// Creates the bus and its tasks, and starts to connect. Does not wait for the connection. `max_payload_bytes` is the
    /// limit of broadcasts, if there is one.
    ///
    /// # Errors
    ///
    /// A setting cannot be used.
    pub async fn new<H: BusSubscriber>(
        node: NodeId,
        settings: &NatsSettings,
        max_payload_bytes: Option<usize>,
        identity: &BusIdentity,
        subscriber: H,
    ) -> Result<(Self, NatsStatus, NatsTasks<H>), NatsError> {
        let (queue, interest) = (Arc::<Queue>::default(), Arc::new(Interest::new()));
        let inbound = Arc::<InboundQueue>::default();
        let subjects = Arc::new(Subjects::new(&settings.subject_prefix, identity));
        let seal = Seal::new(identity);
        let connection = NatsConnection::open(node, settings, &subjects, Arc::clone(&inbound)).await?;
        let (ready, _) = watch::channel(false);
        let tasks = NatsTasks {
            writer: NatsWriter::new(
                (node, max_payload_bytes),
                connection.clone(),
                Arc::clone(&subjects),
                seal.clone(),
                Arc::clone(&queue),
            ),
            deliverer: NatsDeliverer::new(Arc::clone(&subjects), seal, Arc::clone(&inbound), subscriber),
            receiver: NatsReceiver::new(connection.clone(), subjects, Arc::clone(&interest), inbound, ready),
        };
        Ok((Self { queue, interest }, connection.status(), tasks))
    }
}

impl Bus for NatsBus {
    fn publish(&self, message: BusMessage) {
        self.queue.push(message);
    }

    fn subscribe(&self, topic: &Topic) -> Option<TopicSubscription> {
        Some(self.interest.acquire(topic))
    }
}
