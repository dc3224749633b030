//! One channel of a socket: a join that is being decided, or a place in a room.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use tokio_util::task::AbortOnDropHandle;

use crate::{
    channels::{ChannelId, Claimant, Room},
    protocol::phoenix::{Payload, Push, UserPush},
};

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its name in this process.
    pub id: ChannelId,
    /// Where it is.
    pub room: Room,
    /// The client's name for this join.
    pub join_ref: Option<Box<str>>,
    /// What it has become.
    pub stage: Stage,
    /// What the client said meanwhile; in order.
    pub held: Held,
}

/// How far a channel has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Being decided; what is to be answered, and the task that decides, if it takes one. The task ends with this.
    Joining { reference: Option<Box<str>>, _task: Option<AbortOnDropHandle<()>> },
    /// A member of its room.
    Joined(Joined),
}

/// What a channel is once it is a member.
#[derive(Debug)]
pub(super) struct Joined {
    /// As whom it acts.
    pub claimant: Arc<Claimant>,
    /// Broadcasts are answered.
    pub ack: bool,
    /// Hears its own broadcasts.
    pub hears_itself: bool,
}

/// Pushes that wait until something is decided.
#[derive(Debug, Default)]
pub(super) struct Held {
    pushes: VecDeque<HeldPush>,
    bytes: usize,
}

/// The most pushes that wait, and their bytes; what is beyond is not heard, which a client hears of.
const MAX_HELD: usize = 100;
const MAX_HELD_BYTES: usize = 1024 * 1024;

impl Held {
    /// Keeps a push; `false` if there is no room.
    pub fn keep(&mut self, push: &Push<'_>) -> bool {
        let push = HeldPush::from(push);
        let bytes = push.payload.bytes();
        // One alone may be as large as a frame.
        if self.pushes.len() >= MAX_HELD || (self.bytes > 0 && self.bytes + bytes > MAX_HELD_BYTES) {
            return false;
        }
        self.bytes += bytes;
        self.pushes.push_back(push);
        true
    }

    /// The oldest.
    pub fn next(&mut self) -> Option<HeldPush> {
        let push = self.pushes.pop_front()?;
        self.bytes -= push.payload.bytes();
        if self.pushes.is_empty() {
            *self = Self::default();
        }
        Some(push)
    }
}

/// A push that has outlived its frame.
#[derive(Debug)]
pub(super) struct HeldPush {
    join_ref: Option<Box<str>>,
    reference: Option<Box<str>>,
    topic: Box<str>,
    event: Box<str>,
    payload: HeldPayload,
}

#[derive(Debug)]
enum HeldPayload {
    Json(Box<str>),
    Binary(Box<[u8]>),
    UserJson(Box<str>, Box<str>),
    UserBytes(Box<str>, Box<[u8]>),
}

impl HeldPayload {
    fn bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::UserJson(event, json) => event.len() + json.len(),
            Self::UserBytes(event, bytes) => event.len() + bytes.len(),
        }
    }
}

impl From<&Push<'_>> for HeldPush {
    fn from(push: &Push<'_>) -> Self {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(Box::from);
        Self {
            join_ref: text(&push.join_ref),
            reference: text(&push.reference),
            topic: (&*push.topic).into(),
            event: (&*push.event).into(),
            payload: match push.payload {
                Payload::Json(json) => HeldPayload::Json(json.into()),
                Payload::Binary(bytes) => HeldPayload::Binary(bytes.into()),
                Payload::User(UserPush { event, json: Some(json), .. }) => {
                    HeldPayload::UserJson(event.into(), json.into())
                }
                Payload::User(UserPush { event, bytes, .. }) => {
                    HeldPayload::UserBytes(event.into(), bytes.into())
                }
            },
        }
    }
}

impl HeldPush {
    /// The push again.
    pub fn as_push(&self) -> Push<'_> {
        Push {
            join_ref: self.join_ref.as_deref().map(Cow::Borrowed),
            reference: self.reference.as_deref().map(Cow::Borrowed),
            topic: Cow::Borrowed(&self.topic),
            event: Cow::Borrowed(&self.event),
            payload: match &self.payload {
                HeldPayload::Json(json) => Payload::Json(json),
                HeldPayload::Binary(bytes) => Payload::Binary(bytes),
                HeldPayload::UserJson(event, json) => {
                    Payload::User(UserPush { event, json: Some(json), bytes: json.as_bytes() })
                }
                HeldPayload::UserBytes(event, bytes) => Payload::User(UserPush { event, json: None, bytes }),
            },
        }
    }
}
