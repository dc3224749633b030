//! What a client says in a room, passed on as it came: what one read of the socket brought goes on together, since a
//! write to each of a thousand members costs by the write, hardly by the byte.

use std::sync::Arc;

use super::ChannelsSession;
use crate::{hub::TopicDelivery, model::Topic};

/// What is passed on together at most: a batch of the hub has room for several who say so much.
const MAX_BATCH_POSTS: usize = 64;

/// What has been said in a room and waits for the end of the read. It never waits longer, and not for anything else:
/// whatever else the session does that somebody can see comes after [`ChannelsSession::speak`].
#[derive(Debug)]
pub(super) struct PendingBroadcasts {
    topic: Topic,
    posts: Vec<TopicDelivery>,
}

impl ChannelsSession {
    /// Says something in a room, by the end of the read.
    pub(super) async fn queue_broadcast(&mut self, room: Topic, post: TopicDelivery) {
        match &mut self.pending_broadcasts {
            Some(speech) if speech.topic == room && speech.posts.len() < MAX_BATCH_POSTS => {
                speech.posts.push(post)
            }
            _ => {
                self.flush_broadcasts().await;
                self.pending_broadcasts =
                    Some(Box::new(PendingBroadcasts { topic: room, posts: vec![post] }));
            }
        }
    }

    /// Passes on what has been said.
    pub(super) async fn flush_broadcasts(&mut self) {
        if let Some(speech) = self.pending_broadcasts.take() {
            let PendingBroadcasts { topic: room, posts } = *speech;
            // It fails only when the server stops, and then the connection ends too.
            let _ = self.services.broadcaster.publish_local(&room, Arc::from(posts)).await;
        }
    }
}
