//! Room kept in the shards' mailboxes, so that sending needs no wait.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc::PermitIterator;

use super::{
    Hears, Member, Post,
    shard::{Command, Joining},
};
use crate::{
    channels::{ChannelId, Room},
    transport::{Connection, frame::WireFrame},
};

/// So many commands as were asked for, in each shard's mailbox. None of its methods waits, so they may be called under
/// a lock. What is sent beyond that is lost, which is a mistake of the caller's and is logged.
#[derive(Debug)]
pub struct Slots<'a>(SmallVec<[PermitIterator<'a, Command>; 4]>);

impl<'a> Slots<'a> {
    pub(super) const fn new(permits: SmallVec<[PermitIterator<'a, Command>; 4]>) -> Self {
        Self(permits)
    }

    /// Says something to all members of a room on this node: one command of each shard.
    pub fn post(&mut self, room: &Room, post: Post) {
        let posts: Arc<[Post]> = Arc::new([post]);
        for shard in 0..self.0.len() {
            self.send(shard, Command::Post(room.clone(), Arc::clone(&posts)));
        }
    }

    /// Says something to one connection: one command.
    pub fn say(&mut self, connection: &Arc<Connection>, frame: WireFrame) {
        self.send(connection.id().shard(), Command::Say(Arc::clone(connection), frame));
    }

    /// Seats a member in a room, after these frames, which come before everything else of its channel: one command.
    pub fn join(&mut self, room: Room, member: Member<Arc<Connection>>, first: WireFrame) {
        let shard = member.connection.id().shard();
        self.send(shard, Command::Join(Box::new(Joining { room, member, first })));
    }

    /// Ends a membership; nothing of the room reaches the connection for this channel after `last`. One command.
    pub fn leave(
        &mut self,
        room: &Room,
        channel: ChannelId,
        connection: &Arc<Connection>,
        last: Option<WireFrame>,
    ) {
        let last = last.map(|frame| (Arc::clone(connection), frame));
        self.send(connection.id().shard(), Command::Leave(room.clone(), channel, last));
    }

    /// Changes what a member wants to hear, after these frames: one command.
    pub fn hear(
        &mut self,
        room: &Room,
        channel: ChannelId,
        hears: Hears,
        connection: &Arc<Connection>,
        first: Option<WireFrame>,
    ) {
        let first = first.map(|frame| (Arc::clone(connection), frame));
        self.send(connection.id().shard(), Command::Hear(room.clone(), channel, hears, first));
    }

    fn send(&mut self, shard: usize, command: Command) {
        match self.0.get_mut(shard).and_then(Iterator::next) {
            Some(permit) => permit.send(command),
            None => tracing::error!(shard, "more was to be sent than there is room kept for"),
        }
    }
}
