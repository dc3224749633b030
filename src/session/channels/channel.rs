//! State of one channel of a socket.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{private_access::PrivateAccess, subscription::ChannelSubscription};
use crate::{
    auth::Principal,
    channels::{
        bus::TopicSubscription,
        presence::{OccupancyWatch, PresenceKey, PresenceRef},
    },
    hub::ReceiveMask,
    model::{ChannelId, Topic},
    presence::channel_users::UserGuard,
    protocol::phoenix::{Payload, Push, UserPush},
};

/// A channel that is being joined or has been joined.
#[derive(Debug)]
pub(super) struct Channel {
    /// Unique within this process.
    pub id: ChannelId,
    pub topic: Topic,
    /// The client's reference of this join.
    pub join_ref: Option<Box<str>>,
    pub stage: Stage,
    /// Pushes that wait for a running task, in order.
    pub held: HeldPushes,
}

/// Stage of a channel.
#[derive(Debug)]
pub(super) enum Stage {
    /// The join is being authorized: the reference of its reply and its task, if any. Dropping it aborts the
    /// task.
    Joining { reference: Option<Box<str>>, work: Option<AbortOnDropHandle<()>> },
    /// The channel is a member of its topic.
    Joined(Joined),
}

/// State of a joined channel.
#[derive(Debug)]
pub(super) struct Joined {
    pub principal: Arc<Principal>,
    /// Registers the socket for forced disconnects of the user, if the token names one.
    pub user_guard: Option<UserGuard>,
    /// Hash of the token's text. The same token again has no effect.
    pub token_hash: u64,
    /// Whether broadcasts are acknowledged.
    pub ack: bool,
    /// Whether the channel receives its own broadcasts.
    pub receives_own: bool,
    pub presence: Presence,
    /// Rights in a private topic; `None` in a public one.
    pub private_access: Option<Box<PrivateAccess>>,
    /// Subscription to Postgres changes, if requested.
    pub subscription: Option<ChannelSubscription>,
    /// Keeps broadcasts of other nodes coming, if the bus has subscriptions.
    pub _bus: Option<TopicSubscription>,
    /// A running task that pushes wait for. Dropping it aborts the task.
    pub work: Option<AbortOnDropHandle<()>>,
    /// Waits until broadcasts from the database reach this node, if the client requested a notification.
    /// Dropping it aborts the task.
    pub replication_wait: Option<AbortOnDropHandle<()>>,
}

/// Presence settings and state of a channel.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// The client asked for presence in its join.
    pub enabled: bool,
    /// The client asked for counts in its join.
    pub occupancy: Option<OccupancyWatch>,
    /// The client did not ask for presence, but receives diffs because it tracks in a private topic.
    pub receives_diffs: bool,
    /// Key of the channel; generated on first use if the client gave none.
    pub key: Option<PresenceKey>,
    /// Whether the channel tracks an object.
    pub is_tracking: bool,
    /// Times of the last presence pushes.
    pub pushes: PushTimes,
}

/// Times of the last presence pushes in milliseconds, on a clock that wraps around.
#[derive(Debug, Default)]
pub(super) struct PushTimes(VecDeque<u32>);

impl Presence {
    /// The messages that the channel subscribed to.
    pub(super) fn receive_mask(&self, is_private: bool) -> ReceiveMask {
        let counts = if self.occupancy.is_some() { ReceiveMask::OCCUPANCY } else { ReceiveMask::NONE };
        // All members of a public topic receive presence diffs, unless they asked for counts instead.
        let receives_diffs = self.enabled || self.receives_diffs || !is_private && self.occupancy.is_none();
        let diffs = if receives_diffs { ReceiveMask::PRESENCE } else { ReceiveMask::NONE };
        ReceiveMask::BROADCASTS.union(counts).union(diffs)
    }
}

impl PushTimes {
    /// Records a push at `now`. Returns false if there were already `max` within `window`.
    pub(super) fn admit(&mut self, now: u32, max: u32, window: u32) -> bool {
        while self.0.front().is_some_and(|then| now.wrapping_sub(*then) >= window) {
            self.0.pop_front();
        }
        if self.0.len() >= max as usize {
            return false;
        }
        self.0.push_back(now);
        true
    }
}

impl Channel {
    /// Whether pushes have to wait.
    pub(super) fn is_busy(&self) -> bool {
        match &self.stage {
            Stage::Joining { .. } => true,
            Stage::Joined(joined) => joined.work.is_some(),
        }
    }

    /// Identifies the channel in presence, whether it tracks or not. `None` unless it has joined.
    pub(super) fn presence_ref(&mut self) -> Option<PresenceRef> {
        let Stage::Joined(joined) = &mut self.stage else {
            return None;
        };
        let key = joined.presence.key.get_or_insert_with(|| Uuid::new_v4().to_string().into()).clone();
        let user = joined.principal.user_id;
        Some(PresenceRef { topic: self.topic.clone(), key, channel: self.id, user })
    }
}

/// Pushes that wait for a running task.
#[derive(Debug, Default)]
pub(super) struct HeldPushes {
    pushes: VecDeque<HeldPush>,
    bytes: usize,
}

/// Maximum number and bytes of held pushes. Pushes beyond are answered with an error.
const MAX_HELD: usize = 100;
const MAX_HELD_BYTES: usize = 1024 * 1024;

impl HeldPushes {
    /// Appends a push. Returns false if there is no space.
    pub(super) fn push(&mut self, push: &Push<'_>) -> bool {
        let push = HeldPush::from(push);
        let bytes = push.payload.bytes();
        // A single push may be as large as a frame.
        if self.pushes.len() >= MAX_HELD || (self.bytes > 0 && self.bytes + bytes > MAX_HELD_BYTES) {
            return false;
        }
        self.bytes += bytes;
        self.pushes.push_back(push);
        true
    }

    /// Puts back a push that was taken out, as the next one.
    pub(super) fn push_front(&mut self, push: &Push<'_>) {
        let push = HeldPush::from(push);
        self.bytes += push.payload.bytes();
        self.pushes.push_front(push);
    }

    /// Removes the oldest push.
    pub(super) fn pop(&mut self) -> Option<HeldPush> {
        let push = self.pushes.pop_front()?;
        self.bytes -= push.payload.bytes();
        if self.pushes.is_empty() {
            *self = Self::default();
        }
        Some(push)
    }
}

/// An owned copy of a push.
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
    /// Borrows the stored push.
    pub(super) fn as_push(&self) -> Push<'_> {
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
    fn the_sixth_push_in_the_window_is_rejected() {
        let mut calls = PushTimes::default();
        assert!((0..5).all(|second| calls.admit(second * 1_000, 5, 30_000)));
        assert!(!calls.admit(29_999, 5, 30_000));
        assert!(calls.admit(30_000, 5, 30_000), "the first push has left the window");
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
    fn held_pushes_are_bounded_and_keep_their_order() {
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
        assert!(held.push(&push(&large)), "a single push may be large");
    }
}
