//! Publishes broadcasts to the members of a topic on all nodes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    BroadcastPayload,
    bus::{Audience, Bus, BusMessage, BusSubscriber, Peers, TopicSubscription},
    history::{
        ChannelHistory, HistoryRule, KeptMessage, NotStored, OnStored, Origin, Source, UnstoredBroadcast,
    },
};
use crate::{
    hub::{Encodable, Hub, HubStopped, ReceiveMask, TopicDelivery},
    model::{ChannelId, NodeId, Topic},
    protocol::phoenix::{Positioned, TopicMessage, UserBroadcast},
};

/// Publishes broadcasts on all nodes.
#[derive(Clone)]
pub struct Broadcaster {
    local: LocalBroadcaster,
    bus: Arc<dyn Bus>,
}

/// A broadcast to publish.
#[derive(Debug)]
pub enum Publication {
    /// To publish on this node with [`Broadcaster::publish_prepared`].
    Prepared(PreparedBroadcast),
    /// To store with [`Broadcaster::store`]. All nodes publish it when it is committed.
    Unstored(UnstoredBroadcast),
}

/// A broadcast to publish on this node.
#[derive(Debug)]
pub struct PreparedBroadcast {
    delivery: TopicDelivery,
    /// For the history, if the topic has one and the broadcast an ID.
    kept: Option<KeptMessage>,
    /// For the other nodes, if they do not have it yet.
    unsent: Option<Bytes>,
}

/// The result of a publication.
#[derive(Debug)]
pub struct Published(Option<oneshot::Receiver<Result<(), NotStored>>>);

impl Published {
    /// Waits until the broadcast is stored, if it has to be.
    ///
    /// # Errors
    ///
    /// It was not stored, or the server is stopping.
    pub async fn wait(self) -> Result<(), NotStored> {
        match self.0 {
            None => Ok(()),
            Some(result) => result.await.unwrap_or(Err(NotStored::Unavailable)),
        }
    }
}

impl Broadcaster {
    /// Publishes on this node and, while there are other live nodes, on the bus.
    #[must_use]
    pub fn new(local: LocalBroadcaster, bus: Arc<dyn Bus>) -> Self {
        Self { local, bus }
    }

    /// Receives broadcasts of other nodes to this topic while the result exists. `None` if all of them are received.
    #[must_use]
    pub fn subscribe(&self, topic: &Topic) -> Option<TopicSubscription> {
        self.bus.subscribe(topic)
    }

    /// Publishes a broadcast to all members of a topic. The result is available once it is published, or stored if the
    /// topic has a history of rows; call this for several broadcasts before waiting.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn publish(&self, topic: &Topic, payload: BroadcastPayload) -> Result<Published, HubStopped> {
        let unstored = match self.prepare(topic, payload, None) {
            Publication::Prepared(prepared) => {
                self.publish_prepared(topic, vec![prepared]).await?;
                return Ok(Published(None));
            }
            Publication::Unstored(unstored) => unstored,
        };
        let (sender, result) = oneshot::channel();
        // The request may have been cancelled.
        self.store(
            unstored,
            Some(Box::new(move |result| {
                let _ = sender.send(result);
            })),
        );
        Ok(Published(Some(result)))
    }

    /// Publishes a broadcast on the other nodes, and returns what [`Self::publish_prepared`] publishes on this one to all
    /// members but `except`. In a topic with a history both happen then, so that the order is the same on all nodes.
    #[must_use]
    pub fn prepare(
        &self,
        topic: &Topic,
        payload: BroadcastPayload,
        except: Option<ChannelId>,
    ) -> Publication {
        let rule = self.local.history.rule(topic);
        let payload = if rule.is_some() { payload.identified() } else { payload };
        let is_in_memory = rule.as_ref().is_some_and(HistoryRule::is_in_memory);
        let kept = match rule.and_then(|_| payload.to_kept()) {
            Some(message) if !is_in_memory => {
                let topic = topic.clone();
                return Publication::Unstored(UnstoredBroadcast { topic, message, except, on_stored: None });
            }
            kept => kept,
        };
        let mut unsent = (!self.local.peers.is_single_node()).then(|| payload.encode());
        if !is_in_memory && let Some(body) = unsent.take() {
            self.bus.publish(BusMessage { topic: topic.clone(), audience: Audience::Members, body });
        }
        let delivery = topic_delivery(topic, payload, except, None, kept.as_ref().map(|kept| kept.id));
        Publication::Prepared(PreparedBroadcast { delivery, kept, unsent })
    }

    /// Queues a broadcast to be stored. `on_stored` is called when it is committed or given up.
    pub fn store(&self, mut broadcast: UnstoredBroadcast, on_stored: Option<OnStored>) {
        broadcast.on_stored = on_stored;
        self.local.history.queue.push(broadcast);
    }

    /// Publishes broadcasts of one sender on this node, in order. Waits while mailboxes are full, which slows down
    /// senders.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn publish_prepared(
        &self,
        topic: &Topic,
        broadcasts: Vec<PreparedBroadcast>,
    ) -> Result<(), HubStopped> {
        let Some(rule) = self.local.history.rule(topic).filter(HistoryRule::is_in_memory) else {
            let deliveries = broadcasts.into_iter().map(|broadcast| broadcast.delivery).collect();
            return self.local.hub.publish(topic, deliveries).await;
        };
        self.local.publish_kept(topic, rule, Origin::Local, broadcasts, Some(&*self.bus)).await
    }
}

/// Publishes broadcasts on this node only.
#[derive(Debug, Clone)]
pub struct LocalBroadcaster {
    hub: Hub,
    history: ChannelHistory,
    peers: Peers,
}

impl LocalBroadcaster {
    #[must_use]
    pub const fn new(hub: Hub, history: ChannelHistory, peers: Peers) -> Self {
        Self { hub, history, peers }
    }

    /// Publishes a broadcast to the members on this node. Members that received the broadcast `id` in a
    /// replay are skipped.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn deliver(
        &self,
        topic: &Topic,
        payload: BroadcastPayload,
        origin: Origin,
        id: Option<Uuid>,
    ) -> Result<(), HubStopped> {
        let rule = self.history.rule(topic);
        let Some(rule) = rule.filter(HistoryRule::is_in_memory) else {
            let except = id.and_then(|id| self.history.queue.take_sender(id));
            let position = id.filter(|_| rule.is_some());
            let delivery = topic_delivery(topic, payload, except, id, position);
            return self.hub.publish(topic, Arc::new([delivery])).await;
        };
        let kept = payload.to_kept();
        let delivery = topic_delivery(topic, payload, None, id, kept.as_ref().map(|kept| kept.id));
        let broadcasts = vec![PreparedBroadcast { delivery, kept, unsent: None }];
        self.publish_kept(topic, rule, origin, broadcasts, None).await
    }

    /// Publishes in a topic with a history in memory. All members on this node, the history and the other nodes get the
    /// broadcasts in the same order relative to those of other senders: the queues have space before the lock is taken.
    async fn publish_kept(
        &self,
        topic: &Topic,
        rule: HistoryRule,
        origin: Origin,
        broadcasts: Vec<PreparedBroadcast>,
        bus: Option<&dyn Bus>,
    ) -> Result<(), HubStopped> {
        let mut reserved = self.hub.reserve(1).await?;
        let source = Source { origin, has_peers: !self.peers.is_single_node() };
        let mut deliveries = Vec::with_capacity(broadcasts.len());
        let mut history = self.history.memory.lock();
        for PreparedBroadcast { delivery, kept, unsent } in broadcasts {
            if let (Some(bus), Some(body)) = (bus, unsent) {
                bus.publish(BusMessage { topic: topic.clone(), audience: Audience::AllNodes, body });
            }
            if let Some(kept) = kept {
                history.append(topic, rule, source, kept);
            }
            deliveries.push(delivery);
        }
        reserved.publish_all(topic, deliveries.into());
        drop(history);
        Ok(())
    }
}

/// `position` is that of the broadcast in the history of the topic, if it has one.
fn topic_delivery(
    topic: &Topic,
    payload: BroadcastPayload,
    except: Option<ChannelId>,
    id: Option<Uuid>,
    position: Option<Uuid>,
) -> TopicDelivery {
    let topic = topic.name.clone();
    let message = match (payload, position) {
        (BroadcastPayload::Json(payload), _) => {
            Encodable::new(TopicMessage { topic, event: "broadcast".into(), payload }) as _
        }
        (BroadcastPayload::User { event, payload, meta }, None) => {
            Encodable::new(UserBroadcast { topic, event, payload, meta }) as _
        }
        (BroadcastPayload::User { event, payload, meta }, Some(id)) => {
            let message = UserBroadcast { topic, event, payload, meta };
            Encodable::new(Positioned { position: id.to_string().into(), message }) as _
        }
    };
    TopicDelivery { message, kind: ReceiveMask::BROADCASTS, except, id }
}

impl BusSubscriber for LocalBroadcaster {
    fn on_message(&self, from: NodeId, BusMessage { topic, body, .. }: BusMessage) -> BoxFuture<'_, ()> {
        async move {
            match BroadcastPayload::decode(body) {
                // This fails only when the server is stopping.
                Some(payload) => drop(self.deliver(&topic, payload, Origin::Node(from), None).await),
                None => tracing::warn!("cannot decode a broadcast from another node"),
            }
        }
        .boxed()
    }

    fn on_lost(&self) {
        self.history.memory.mark_gap();
    }

    fn on_connected(&self, is_connected: bool) {
        self.history.memory.set_connected(is_connected);
    }
}
