//! Capacity reserved in the shards' command queues, so that commands are sent without waiting.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc::PermitIterator;

use super::{
    Connection, Member, ReceiveMask, TopicDelivery,
    frame::WireFrame,
    shard::{Command, NewMember},
};
use crate::model::{ChannelId, Topic};

/// A number of reserved commands in each shard's queue. The methods never wait, so they may be called under a lock. A
/// command beyond the reservation is dropped and logged; it indicates a bug in the caller.
#[derive(Debug)]
pub struct ReservedCommands<'a>(SmallVec<[PermitIterator<'a, Command>; 4]>);

impl<'a> ReservedCommands<'a> {
    pub(super) const fn new(permits: SmallVec<[PermitIterator<'a, Command>; 4]>) -> Self {
        Self(permits)
    }

    /// Publishes to all members of a topic on this node. Uses one command per shard.
    pub fn publish(&mut self, topic: &Topic, delivery: TopicDelivery) {
        self.publish_all(topic, Arc::new([delivery]));
    }

    /// Publishes to all members of a topic on this node, in order. Uses one command per shard.
    pub fn publish_all(&mut self, topic: &Topic, deliveries: Arc<[TopicDelivery]>) {
        for shard in 0..self.0.len() {
            self.enqueue(shard, Command::Publish(topic.clone(), Arc::clone(&deliveries)));
        }
    }

    /// Sends a frame to one connection. Uses one command.
    pub fn send(&mut self, connection: &Arc<Connection>, frame: WireFrame) {
        self.enqueue(connection.id().shard(), Command::Send(Arc::clone(connection), frame));
    }

    /// Adds a member to a topic. `first_frame` precedes everything else of its channel. Uses one command.
    pub fn join(&mut self, topic: Topic, member: Member<Arc<Connection>>, first_frame: WireFrame) {
        let shard = member.connection.id().shard();
        self.enqueue(shard, Command::Join(Box::new(NewMember { topic, member, first_frame })));
    }

    /// Removes a member from a topic. Nothing of the topic reaches the connection for this channel after `last_frame`.
    /// Uses one command.
    pub fn leave(
        &mut self,
        topic: &Topic,
        channel: ChannelId,
        connection: &Arc<Connection>,
        last_frame: Option<WireFrame>,
    ) {
        let last = last_frame.map(|frame| (Arc::clone(connection), frame));
        self.enqueue(connection.id().shard(), Command::Leave(topic.clone(), channel, last));
    }

    /// Changes a member's receive mask after `first_frame`. Uses one command.
    pub fn set_mask(
        &mut self,
        topic: &Topic,
        channel: ChannelId,
        mask: ReceiveMask,
        connection: &Arc<Connection>,
        first_frame: Option<WireFrame>,
    ) {
        let first = first_frame.map(|frame| (Arc::clone(connection), frame));
        self.enqueue(connection.id().shard(), Command::SetMask(topic.clone(), channel, mask, first));
    }

    fn enqueue(&mut self, shard: usize, command: Command) {
        match self.0.get_mut(shard).and_then(Iterator::next) {
            Some(permit) => permit.send(command),
            None => tracing::error!(shard, "more commands sent than reserved; command dropped"),
        }
    }
}
