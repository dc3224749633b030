//! Task that sends the queued messages of this node.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Audience, BusMessage, interest::TopicKey, queue::Queue},
    connection::{LinkState, NatsConnection},
    envelope::{HEADER_BYTES, Seal},
    positions::SentPositions,
    subjects::{Destination, Subjects},
};
use crate::{backoff::Backoff, model::NodeId, telemetry::metric};

/// Timeout of handing a batch to the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Backoff after a timeout: doubled each time, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
/// Bytes of an encoded batch without messages.
const EMPTY_BATCH_BYTES: usize = 1;

/// Task that sends the queued messages of this node.
pub struct NatsWriter {
    node: NodeId,
    /// The limit of broadcasts, if there is one.
    max_payload_bytes: Option<usize>,
    connection: NatsConnection,
    subjects: Arc<Subjects>,
    seal: Seal,
    queue: Arc<Queue>,
    positions: SentPositions,
    /// Number of the connection that was written to.
    connections: u64,
    /// Messages of the current batch that were not sent.
    unsent: u64,
    /// Whether sent messages may be lost, and the other nodes do not know.
    has_gap: bool,
    /// Whether a message that NATS does not accept was logged.
    has_warned: bool,
}

/// A batch could not be handed to the connection in time, or the client has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the connection does not accept messages")]
struct NotWritten;

impl NatsWriter {
    pub(super) fn new(
        (node, max_payload_bytes): (NodeId, Option<usize>),
        connection: NatsConnection,
        subjects: Arc<Subjects>,
        seal: Seal,
        queue: Arc<Queue>,
    ) -> Self {
        let positions = SentPositions::default();
        Self {
            node,
            max_payload_bytes,
            connection,
            subjects,
            seal,
            queue,
            positions,
            connections: 0,
            unsent: 0,
            has_gap: false,
            has_warned: false,
        }
    }

    /// Sends batches until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
        loop {
            let written = select! {
                () = stop.cancelled() => return,
                written = self.write_next() => written,
            };
            let Err(error) = written else {
                backoff.reset();
                continue;
            };
            tracing::warn!(%error, "sending to NATS failed");
            select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// Waits for a connection and messages, and sends a batch. Messages wait in the queue while there is no connection.
    async fn write_next(&mut self) -> Result<(), NotWritten> {
        let mut link = self.connection.watch();
        let is_usable = |link: &LinkState| link.is_connected;
        let connections = link.wait_for(is_usable).await.map_err(|_| NotWritten)?.connections;
        // What was being sent over the last connection may be lost.
        self.has_gap |= self.connections != 0 && self.connections != connections;
        if self.connections == 0 {
            self.check_max_payload();
        }
        self.connections = connections;
        if self.has_gap {
            timeout(WRITE_TIMEOUT, self.announce_gap()).await.map_err(|_| NotWritten)??;
        }
        select! {
            () = self.queue.wait_until_nonempty() => {}
            // The connection may be lost while there is nothing to send.
            changed = link.changed() => return changed.map_err(|_| NotWritten),
        }
        let messages = self.queue.take_batch();
        self.has_gap |= self.queue.take_dropped();
        self.unsent = messages.len() as u64;
        let written = timeout(WRITE_TIMEOUT, self.write_batch(messages)).await;
        let unsent = std::mem::take(&mut self.unsent);
        metrics::counter!(metric::BUS_DROPPED, "cause" => "failed").increment(unsent);
        self.has_gap |= unsent > 0;
        written.map_err(|_| NotWritten)?
    }

    /// Warns if broadcasts within the limit of this node may be too large for NATS.
    fn check_max_payload(&self) {
        if self.max_payload_bytes.is_none_or(|bytes| bytes > self.max_message_bytes()) {
            tracing::warn!(
                max_payload = self.connection.client.max_payload(),
                "broadcasts above max_payload of NATS reach only members on this node: raise max_payload there, or lower REALTIME_MAX_PAYLOAD_KB"
            );
        }
    }

    /// Bytes of the encoded messages that fit into one NATS message.
    fn max_message_bytes(&self) -> usize {
        self.connection.client.max_payload().saturating_sub(HEADER_BYTES + EMPTY_BATCH_BYTES)
    }

    async fn write_batch(&mut self, messages: Vec<BusMessage>) -> Result<(), NotWritten> {
        if self.has_gap {
            self.announce_gap().await?;
        }
        if messages.is_empty() {
            return Ok(());
        }
        metrics::histogram!(metric::BUS_BATCH_SIZE).record(messages.len() as f64);
        for (destination, messages) in by_destination(messages) {
            self.write_to(destination, messages).await?;
        }
        self.connection.client.flush().await.map_err(|_| NotWritten)
    }

    /// Sends messages to one destination, in as few NATS messages as its maximum size allows.
    async fn write_to(
        &mut self,
        destination: Destination,
        messages: Vec<BusMessage>,
    ) -> Result<(), NotWritten> {
        let max_bytes = self.max_message_bytes();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for message in messages {
            let length = message.encoded_len();
            if length > max_bytes {
                metrics::counter!(metric::BUS_DROPPED, "cause" => "too_large").increment(1);
                self.unsent -= 1;
                if !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(
                        bytes = message.body.len(),
                        max_payload = self.connection.client.max_payload(),
                        "a broadcast is larger than max_payload of NATS; further ones are only counted"
                    );
                }
                self.send(destination, &std::mem::take(&mut part)).await?;
                bytes = 0;
                // The number is left out, so that receivers find the gap.
                self.positions.next(destination);
                self.has_gap |= destination == Destination::AllNodes;
                continue;
            }
            if bytes + length > max_bytes {
                self.send(destination, &std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            bytes += length;
            part.push(message);
        }
        self.send(destination, &part).await
    }

    async fn send(&mut self, destination: Destination, messages: &[BusMessage]) -> Result<(), NotWritten> {
        if messages.is_empty() {
            return Ok(());
        }
        self.publish(destination, messages).await?;
        self.unsent -= messages.len() as u64;
        metrics::counter!(metric::BUS_MESSAGES_SENT).increment(messages.len() as u64);
        Ok(())
    }

    /// Sends an empty batch, which tells all nodes that messages of this one were lost.
    async fn announce_gap(&mut self) -> Result<(), NotWritten> {
        self.publish(Destination::AllNodes, &[]).await?;
        self.has_gap = false;
        Ok(())
    }

    async fn publish(&mut self, destination: Destination, messages: &[BusMessage]) -> Result<(), NotWritten> {
        let (subject, position) = (self.subjects.of(destination), self.positions.next(destination));
        let payload: Bytes = self.seal.seal(&subject, self.node, position, messages);
        self.connection.client.publish(subject, payload).await.map_err(|_| NotWritten)
    }
}

/// Groups messages by destination. Those of one destination keep their order.
fn by_destination(messages: Vec<BusMessage>) -> Vec<(Destination, Vec<BusMessage>)> {
    let mut groups: Vec<(Destination, Vec<BusMessage>)> = Vec::new();
    let mut index_by_destination = HashMap::new();
    for message in messages {
        let destination = match message.audience {
            Audience::AllNodes => Destination::AllNodes,
            Audience::Members => Destination::Topic(TopicKey::of(&message.topic)),
        };
        let index = *index_by_destination.entry(destination).or_insert(groups.len());
        match groups.get_mut(index) {
            Some((_, group)) => group.push(message),
            None => groups.push((destination, vec![message])),
        }
    }
    groups
}
