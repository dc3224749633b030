//! One channel of a socket: a join that is being decided, or a place in a room.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{authorization::PrivateAccess, postgres_changes::ChannelSubscription};
use crate::{
    channels::{
        ChannelPrincipal,
        presence::{PresenceKey, PresenceRef},
    },
    model::{ChannelId, Topic},
    presence::channel_users::UserGuard,
    protocol::phoenix::{Payload, Push, UserPush},
};

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its name in this process.
    pub id: ChannelId,
    /// Where it is.
    pub topic: Topic,
    /// The client's name for this join.
    pub join_ref: Option<Box<str>>,
    /// What it has become.
    pub stage: Stage,
    /// What the client said meanwhile; in order.
    pub held: HeldPushes,
}

/// How far a channel has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Being decided; what is to be answered, and the task that decides, if it takes one. The task ends with this.
    Joining { reference: Option<Box<str>>, work: Option<AbortOnDropHandle<()>> },
    /// A member of its room.
    Joined(Joined),
}

/// What a channel is once it is a member.
#[derive(Debug)]
pub(super) struct Joined {
    /// As whom it acts.
    pub principal: Arc<ChannelPrincipal>,
    /// Its place among the users here, if it acts as one.
    pub user_guard: Option<UserGuard>,
    /// The hash of the token's text: the same again changes nothing.
    pub token_hash: u64,
    /// Broadcasts are answered.
    pub ack: bool,
    /// Hears its own broadcasts.
    pub receives_own: bool,
    /// What it has to do with presence.
    pub presence: Presence,
    /// What stands between it and a private room.
    pub private_access: Option<Box<PrivateAccess>>,
    /// Its subscription to changes, if it asked for any.
    pub subscription: Option<ChannelSubscription>,
    /// Something that is being found out, while pushes wait. It ends with this.
    pub work: Option<AbortOnDropHandle<()>>,
    /// Waits for broadcasts from the database, where the client wants to know. It ends with this.
    pub replication_wait: Option<AbortOnDropHandle<()>>,
}

/// What a channel has to do with presence.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// It wants to see who is present.
    pub enabled: bool,
    /// It did not want to, but tracks in a private room and so sees differences.
    pub receives_diffs: bool,
    /// Under which key it tracks; made up when it is first needed.
    pub key: Option<PresenceKey>,
    /// It tracks something.
    pub is_tracking: bool,
    /// When its last pushes were.
    pub pushes: PushTimes,
}

/// The moments of the last presence pushes, milliseconds on one clock that may start over.
#[derive(Debug, Default)]
pub(super) struct PushTimes(VecDeque<u32>);

impl PushTimes {
    /// Counts a push at `now`; `false` if there were `most` within `window` already.
    pub fn admit(&mut self, now: u32, most: u32, window: u32) -> bool {
        while self.0.front().is_some_and(|then| now.wrapping_sub(*then) >= window) {
            self.0.pop_front();
        }
        if self.0.len() >= most as usize {
            return false;
        }
        self.0.push_back(now);
        true
    }
}

impl Channel {
    /// Whether its pushes have to wait.
    pub fn is_busy(&self) -> bool {
        match &self.stage {
            Stage::Joining { .. } => true,
            Stage::Joined(joined) => joined.work.is_some(),
        }
    }

    /// Its place in presence, whether it tracks or not.
    pub fn presence_ref(&mut self) -> Option<PresenceRef> {
        let Stage::Joined(joined) = &mut self.stage else {
            return None;
        };
        let key = joined.presence.key.get_or_insert_with(|| Uuid::new_v4().to_string().into()).clone();
        let user = joined.principal.user_id();
        Some(PresenceRef { topic: self.topic.clone(), key, channel: self.id, user })
    }
}

/// Pushes that wait until something is decided.
#[derive(Debug, Default)]
pub(super) struct HeldPushes {
    pushes: VecDeque<HeldPush>,
    bytes: usize,
}

/// The most pushes that wait, and their bytes; what is beyond is not heard, which a client hears of.
const MAX_HELD: usize = 100;
const MAX_HELD_BYTES: usize = 1024 * 1024;

impl HeldPushes {
    /// Keeps a push; `false` if there is no room.
    pub fn push(&mut self, push: &Push<'_>) -> bool {
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

    /// Keeps a push that was taken out already, in its old place.
    pub fn push_front(&mut self, push: &Push<'_>) {
        let push = HeldPush::from(push);
        self.bytes += push.payload.bytes();
        self.pushes.push_front(push);
    }

    /// The oldest.
    pub fn pop(&mut self) -> Option<HeldPush> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_calls_in_thirty_seconds_and_the_sixth_is_too_many() {
        let mut calls = PushTimes::default();
        assert!((0..5).all(|second| calls.admit(second * 1_000, 5, 30_000)));
        assert!(!calls.admit(29_999, 5, 30_000));
        assert!(calls.admit(30_000, 5, 30_000), "the first was half a minute ago");
        assert!(!calls.admit(30_500, 5, 30_000));
        let mut late = PushTimes::default();
        assert!(
            late.admit(u32::MAX, 1, 30_000) && !late.admit(5, 1, 30_000) && late.admit(30_000, 1, 30_000)
        );
    }

    fn push(payload: &str) -> Push<'_> {
        Push {
            join_ref: None,
            reference: Some("7".into()),
            topic: "realtime:a".into(),
            event: "broadcast".into(),
            payload: Payload::Json(payload),
        }
    }

    #[test]
    fn what_is_held_comes_back_in_order_and_only_so_much_is_held() {
        let mut held = HeldPushes::default();
        let user = UserPush { event: "e", json: None, bytes: b"\0" };
        let binary = Push { payload: Payload::User(user), ..push("") };
        assert!(held.push(&push("1")) && held.push(&binary));
        assert!((2..MAX_HELD).all(|_| held.push(&push("2"))));
        assert!(!held.push(&push("3")));
        assert_eq!(held.pop().expect("is held").as_push(), push("1"));
        assert_eq!(held.pop().expect("is held").as_push(), binary);
        let large = "x".repeat(MAX_HELD_BYTES);
        assert!(!held.push(&push(&large)));
        while held.pop().is_some() {}
        assert!(held.push(&push(&large)), "one alone may be large");
    }
}
