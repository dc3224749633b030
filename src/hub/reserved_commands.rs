//! Room kept in the shards' mailboxes, so that sending needs no wait.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc::PermitIterator;

use super::{
    Member, ReceiveMask, TopicDelivery,
    shard::{Command, NewMember},
};
use crate::{
    model::{ChannelId, Topic},
    transport::{Connection, frame::WireFrame},
};

/// So many commands as were asked for, in each shard's mailbox. None of its methods waits, so they may be called under
/// a lock. What is sent beyond that is lost, which is a mistake of the caller's and is logged.
#[derive(Debug)]
pub struct ReservedCommands<'a>(SmallVec<[PermitIterator<'a, Command>; 4]>);

impl<'a> ReservedCommands<'a> {
    pub(super) const fn new(permits: SmallVec<[PermitIterator<'a, Command>; 4]>) -> Self {
        Self(permits)
    }

    /// Says something to all members of a room on this node: one command of each shard.
    pub fn publish(&mut self, room: &Topic, post: TopicDelivery) {
        let posts: Arc<[TopicDelivery]> = Arc::new([post]);
        for shard in 0..self.0.len() {
            self.enqueue(shard, Command::Publish(room.clone(), Arc::clone(&posts)));
        }
    }

    /// Says something to one connection: one command.
    pub fn send(&mut self, connection: &Arc<Connection>, frame: WireFrame) {
        self.enqueue(connection.id().shard(), Command::Send(Arc::clone(connection), frame));
    }

    /// Seats a member in a room, after these frames, which come before everything else of its channel: one command.
    pub fn join(&mut self, room: Topic, member: Member<Arc<Connection>>, first: WireFrame) {
        let shard = member.connection.id().shard();
        self.enqueue(shard, Command::Join(Box::new(NewMember { topic: room, member, first_frame: first })));
    }

    /// Ends a membership; nothing of the room reaches the connection for this channel after `last`. One command.
    pub fn leave(
        &mut self,
        room: &Topic,
        channel: ChannelId,
        connection: &Arc<Connection>,
        last: Option<WireFrame>,
    ) {
        let last = last.map(|frame| (Arc::clone(connection), frame));
        self.enqueue(connection.id().shard(), Command::Leave(room.clone(), channel, last));
    }

    /// Changes what a member wants to hear, after these frames: one command.
    pub fn set_mask(
        &mut self,
        room: &Topic,
        channel: ChannelId,
        hears: ReceiveMask,
        connection: &Arc<Connection>,
        first: Option<WireFrame>,
    ) {
        let first = first.map(|frame| (Arc::clone(connection), frame));
        self.enqueue(connection.id().shard(), Command::SetMask(room.clone(), channel, hears, first));
    }

    fn enqueue(&mut self, shard: usize, command: Command) {
        match self.0.get_mut(shard).and_then(Iterator::next) {
            Some(permit) => permit.send(command),
            None => tracing::error!(shard, "more was to be sent than there is room kept for"),
        }
    }
}
