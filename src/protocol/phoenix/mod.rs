//! Phoenix channels as Supabase's clients use them, in two serializer versions.
//!
//! | | frames in | frames out |
//! | --- | --- | --- |
//! | [`V1`], `vsn=1.0.0` | text: `{topic, event, payload, ref, join_ref?}` | text: `{ref, event, payload, topic}` |
//! | [`V2`], `vsn=2.0.0` | text: `[join_ref, ref, topic, event, payload]`; binary kinds 0, 3 | the same; kind 4 |
//!
//! [`Push::decode`] decodes a client's frame without parsing its payload. Payloads stay unchanged, so large numbers and
//! the order of keys are preserved. [`Message`] is a message for one client, [`TopicMessage`] and [`UserBroadcast`] are
//! messages for all members of a topic.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use inbound::{Malformed, Payload, Push, UserPush};
pub use outbound::{Body, Message, Positioned, ReplyStatus, TopicMessage, UserBroadcast, UserPayload};

use super::spec::{ConnectionPolicy, DialectSpec, Framing, IdlePolicy, ShutdownClose};

/// Prefix of every channel's topic on the wire.
pub const TOPIC_PREFIX: &str = "realtime:";
/// The topic of heartbeats.
pub const HEARTBEAT_TOPIC: &str = "phoenix";

/// Maximum size of a client frame in bytes. A larger one closes the connection with 1009.
const MAX_MESSAGE_BYTES: usize = 5_000_000;
/// A socket without data for this time is closed. Clients send heartbeats every 15 to 30 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const POLICY: ConnectionPolicy = ConnectionPolicy {
    idle: IdlePolicy::CloseAfter(IDLE_TIMEOUT),
    is_rate_limited: false,
    shutdown_close: ShutdownClose::ServiceRestart,
};

/// Serializer 1.0.0.
pub(super) const V1: DialectSpec = DialectSpec {
    name: "phoenix_v1",
    framing: Framing::WebSocket,
    max_message_bytes: MAX_MESSAGE_BYTES,
    policy: POLICY,
    presence_codec: None,
};

/// Messages of serializer 1.0.0 as server-sent events, `/realtime/v1/sse`.
pub(super) const EVENTS: DialectSpec = DialectSpec {
    name: "channel_events",
    framing: Framing::EventStream,
    max_message_bytes: 0,
    policy: ConnectionPolicy { is_rate_limited: false, ..ConnectionPolicy::EVENTS },
    presence_codec: None,
};

/// Serializer 2.0.0.
pub(super) const V2: DialectSpec = DialectSpec {
    name: "phoenix_v2",
    framing: Framing::WebSocket,
    max_message_bytes: MAX_MESSAGE_BYTES,
    policy: POLICY,
    presence_codec: None,
};
