//! Task that delivers the messages of other nodes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::select;
use tokio_util::sync::CancellationToken;

use super::{
    super::{BusSubscriber, decode},
    envelope::Seal,
    inbound::{Inbound, InboundQueue},
    positions::{Arrival, ReceivedPositions},
    subjects::{Destination, Subjects},
};
use crate::telemetry::metric;

/// Task that delivers the messages of other nodes.
pub struct NatsDeliverer<H> {
    subjects: Arc<Subjects>,
    seal: Seal,
    inbound: Arc<InboundQueue>,
    subscriber: H,
    positions: ReceivedPositions,
}

impl<H: BusSubscriber> NatsDeliverer<H> {
    pub(super) fn new(
        subjects: Arc<Subjects>,
        seal: Seal,
        inbound: Arc<InboundQueue>,
        subscriber: H,
    ) -> Self {
        Self { subjects, seal, inbound, subscriber, positions: ReceivedPositions::default() }
    }

    /// Delivers until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let work = async {
                let next = self.inbound.next().await;
                self.deliver(next).await;
            };
            select! {
                () = stop.cancelled() => return,
                () = work => {}
            }
        }
    }

    async fn deliver(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Message(destination, payload) => self.deliver_message(destination, payload).await,
            Inbound::Unsubscribed(destination) => self.positions.forget(destination),
            Inbound::Lost => self.subscriber.on_lost(),
            Inbound::Connected(is_connected) => self.subscriber.on_connected(is_connected),
        }
    }

    async fn deliver_message(&mut self, destination: Destination, payload: Bytes) {
        let Some(envelope) = self.seal.open(&self.subjects.of(destination), payload) else {
            metrics::counter!(metric::BUS_DROPPED, "cause" => "forged").increment(1);
            return;
        };
        match self.positions.record(destination, envelope.from, envelope.position) {
            Arrival::Next => {}
            Arrival::AfterGap(missing) => {
                metrics::counter!(metric::BUS_DROPPED, "cause" => "missed").increment(missing);
                self.subscriber.on_lost();
            }
            Arrival::Repeated => return,
        }
        let mut messages = decode(envelope.batch).peekable();
        if messages.peek().is_none() {
            // The sender has lost messages.
            self.subscriber.on_lost();
        }
        for message in messages {
            match message {
                Some(message) => {
                    metrics::counter!(metric::BUS_MESSAGES_RECEIVED).increment(1);
                    self.subscriber.on_message(envelope.from, message).await;
                }
                None => tracing::warn!("cannot decode a message of the bus"),
            }
        }
    }
}
