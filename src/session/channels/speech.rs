//! What a client says in a room, passed on as it came: what one read of the socket brought goes on together, since a
//! write to each of a thousand members costs by the write, hardly by the byte.

use std::sync::Arc;

use super::ChannelsSession;
use crate::{channels::Room, hub::Post};

/// What is passed on together at most: a batch of the hub has room for several who say so much.
const TOGETHER: usize = 64;

/// What has been said in a room and waits for the end of the read. It never waits longer, and not for anything else:
/// whatever else the session does that somebody can see comes after [`ChannelsSession::speak`].
#[derive(Debug)]
pub(super) struct Speech {
    room: Room,
    posts: Vec<Post>,
}

impl ChannelsSession {
    /// Says something in a room, by the end of the read.
    pub(super) async fn say(&mut self, room: Room, post: Post) {
        match &mut self.speech {
            Some(speech) if speech.room == room && speech.posts.len() < TOGETHER => speech.posts.push(post),
            _ => {
                self.speak().await;
                self.speech = Some(Box::new(Speech { room, posts: vec![post] }));
            }
        }
    }

    /// Passes on what has been said.
    pub(super) async fn speak(&mut self) {
        if let Some(speech) = self.speech.take() {
            let Speech { room, posts } = *speech;
            // It fails only when the server stops, and then the connection ends too.
            let _ = self.services.broadcaster.finish(&room, Arc::from(posts)).await;
        }
    }
}
