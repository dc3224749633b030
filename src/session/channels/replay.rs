//! Replayed broadcasts of a join.

use std::collections::VecDeque;

use hashbrown::HashSet;
use parking_lot::MappedMutexGuard;
use uuid::Uuid;

use super::{channel::Channel, replies::ReplyWriter};
use crate::{
    channels::{
        broadcast_from_db::{DatabaseBroadcast, StoredBroadcasts},
        history::{HistoryReplay, KeptMessage, LockedHistory},
        replay::ReplayBuffer,
    },
    telemetry::metric,
    transport::frame::WireFrame,
};

/// Broadcasts to replay, read before the channel becomes a member.
#[derive(Debug)]
pub(super) enum JoinReplay {
    /// Those stored in the database, and the buffer of those received since.
    Stored {
        stored: StoredBroadcasts,
        buffer: ReplayBuffer,
        /// Whether nothing is missing after the position of the client, if it gave one.
        is_complete: Option<bool>,
    },
    /// Those in the history of the channel.
    History(HistoryReplay),
}

/// Holds the lock under which broadcasts are delivered, until the membership is queued.
pub(super) enum LockedReplay<'a> {
    Stored(&'a StoredBroadcasts, MappedMutexGuard<'a, VecDeque<DatabaseBroadcast>>, Option<bool>),
    History(&'a HistoryReplay, LockedHistory<'a>),
}

/// What a channel receives before it becomes a member.
#[derive(Default)]
pub(super) struct Replayed {
    /// The replayed broadcasts, oldest first.
    pub(super) frames: Vec<WireFrame>,
    /// IDs of broadcasts that must not be delivered again.
    pub(super) ids: Option<Box<HashSet<Uuid>>>,
    /// Whether nothing is missing after the position of the client, if it gave one.
    pub(super) is_complete: Option<bool>,
}

impl JoinReplay {
    /// The frames of the broadcasts that were read. Encoded before the lock is taken, because there may be thousands.
    pub(super) fn frames(&self, encoder: &ReplayEncoder<'_>) -> Vec<WireFrame> {
        match self {
            Self::Stored { stored, .. } => {
                encoder.encode(stored.broadcasts.iter().map(|broadcast| &broadcast.message))
            }
            Self::History(replay) => encoder.encode(replay.messages.iter().map(|message| &**message)),
        }
    }

    /// No broadcast of the topic is delivered until the guard is dropped.
    pub(super) fn lock(&self) -> LockedReplay<'_> {
        match self {
            Self::Stored { stored, buffer, is_complete } => {
                LockedReplay::Stored(stored, buffer.buffered(), *is_complete)
            }
            Self::History(replay) => LockedReplay::History(replay, replay.lock()),
        }
    }
}

impl LockedReplay<'_> {
    /// Adds the broadcasts since then to the `frames` of those that were read.
    pub(super) fn complete(&self, mut frames: Vec<WireFrame>, encoder: &ReplayEncoder<'_>) -> Replayed {
        let replayed = match self {
            Self::Stored(stored, newer, is_complete) => {
                let known = stored.broadcasts.iter().map(|broadcast| broadcast.message.id);
                let known = known.chain(stored.in_flight.iter().copied());
                let mut known: Box<HashSet<Uuid>> = Box::new(known.collect());
                // These were committed after the stored ones, so the result is in commit order.
                let newer: Vec<_> =
                    newer.iter().map(|it| &it.message).filter(|message| known.insert(message.id)).collect();
                frames.extend(encoder.encode(newer));
                Replayed { frames, ids: Some(known), is_complete: *is_complete }
            }
            Self::History(replay, history) => {
                let (newer, is_complete) = replay.finish(history);
                frames.extend(encoder.encode(newer.iter().map(|message| &**message)));
                Replayed { frames, ids: None, is_complete }
            }
        };
        if let Some(is_complete) = replayed.is_complete {
            let result = if is_complete { "complete" } else { "incomplete" };
            metrics::counter!(metric::CHANNEL_HISTORY_REPLAYS, "result" => result).increment(1);
        }
        replayed
    }
}

/// Encodes replayed broadcasts for a channel.
pub(super) struct ReplayEncoder<'a> {
    pub(super) replies: &'a ReplyWriter<'a>,
    pub(super) channel: &'a Channel,
    /// Whether the broadcasts have a position in the history of the channel.
    pub(super) has_history: bool,
}

impl ReplayEncoder<'_> {
    fn encode<'m>(&self, messages: impl IntoIterator<Item = &'m KeptMessage>) -> Vec<WireFrame> {
        let frame = |message| self.replies.replayed_frame(self.channel, message, self.has_history);
        messages.into_iter().filter_map(frame).collect()
    }
}
